"""Senders that mean harm, each a process of its own so that it can be another user: hostile.py WHAT SOCKET UID."""

import collections
import gzip
import json
import os
import socket
import struct
import sys
import time

from http2 import (DATA, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, WINDOW_UPDATE, Http2,
                   become, message)

PUBLISH = "/telemetry.v1.IngestService/Publish"
STREAM = "/telemetry.v1.IngestService/PublishStream"


def goaway_code(payload):
    return struct.unpack(">I", payload[4:8])[0]


def until_closed(peer):
    """What the server says until it hangs up, by hanging up at the latest."""
    seen = []
    try:
        for kind, _, _, payload in peer.frames():
            if kind == GOAWAY:
                seen.append(goaway_code(payload))
    except ConnectionError:
        pass
    return seen


def ping_flood(path):
    peer = Http2(path)
    try:
        for _ in range(10_000):
            peer.send(PING, 0, 0, bytes(8))
    except ConnectionError:
        pass
    print("goaway", until_closed(peer))


def rapid_reset(path):
    peer = Http2(path)
    begun = time.monotonic()
    try:
        for stream in range(1, 100_001, 2):
            peer.open_call(stream, STREAM)
            peer.send(RST_STREAM, 0, stream, struct.pack(">I", 8))
    except ConnectionError:
        until_closed(peer)
        print("cut off")
        return
    except TimeoutError:
        print("held up")  # nothing more is read from it
        return
    # A machine that is busy with other things may not manage a flood.
    rate = 50_000 / (time.monotonic() - begun)
    print("too slow" if rate < 5_000 else "not cut off")


def never_read(path):
    """Opens a stream, allows the server no byte of answer, and sends what is refused as long as it may."""
    import rig
    peer = Http2(path, [(INITIAL_WINDOW_SIZE, 0)])
    frames = peer.frames()
    instance = os.urandom(16)
    peer.open_call(1, STREAM)
    padding = b"x" * 60_000
    windows = {0: 65_535, 1: 65_535}
    at, sent, stopped = 0, 0, False
    while at < 400 and not stopped:
        at += 1
        context = b"tool" if at == 1 else b""
        payload = message(rig.request([rig.event(b"\xff", rig.text(99, padding))], instance, at, 0, context))
        begin = 0
        while begin < len(payload):
            room = min(windows[0], windows[1], 16_384, len(payload) - begin)
            if room == 0:
                # Only the server can give more; it stops when the window of requests is full.
                peer.socket.settimeout(3)
                try:
                    kind, _, stream, body = next(frames)
                except TimeoutError:
                    stopped = True
                    break
                if kind == WINDOW_UPDATE:
                    windows[stream] += struct.unpack(">I", body)[0]
                continue
            peer.send(DATA, 0, 1, payload[begin:begin + room])
            windows[0] -= room
            windows[1] -= room
            begin += room
        else:
            sent = at
    print("stopped", stopped, sent)
    sys.stdout.flush()
    sys.stdin.read()  # stays connected until the test has looked


def zip_bomb(path):
    peer = Http2(path)
    bomb = gzip.compress(bytes(48 << 20))
    peer.open_call(1, PUBLISH, [(b"grpc-encoding", b"gzip")])
    peer.data(1, message(bomb, compressed=True), END_STREAM)
    for kind, _, stream, payload in peer.frames():
        if stream == 1 and kind in (HEADERS, RST_STREAM):
            print("refused", b"12" in payload if kind == HEADERS else True)
            return


def garbage(path):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(60)
    peer.connect(path)
    peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + os.urandom(1000))
    while peer.recv(4096):
        pass
    print("closed")


def many_connections(path):
    peers = []
    refused = 0
    for _ in range(80):
        peer = Http2(path)
        peers.append(peer)
    for peer in peers:
        try:
            next(peer.frames())
        except (StopIteration, ConnectionError):
            refused += 1
    print("refused", refused)


def many_large(path):
    """5 connections with 64 calls of 1 MiB each, begun before the first is answered; what came of them, as JSON."""
    import grpc
    import rig
    large = rig.request([rig.event(b"large", rig.text(99, bytes(60_000))) for _ in range(17)])
    channels = [grpc.insecure_channel("unix:" + path, options=(("grpc.use_local_subchannel_pool", 1),)) for _ in range(5)]
    calls = [channel.unary_unary(rig.PUBLISH, rig.same, rig.same) for channel in channels for _ in range(64)]
    futures = [call.future(large, timeout=rig.PATIENCE) for call in calls]
    print("sent", flush=True)
    seen = collections.Counter()
    for future in futures:
        try:
            future.result()
            seen["OK"] += 1
        except grpc.RpcError as error:
            seen[f"{error.code().name} {rig.retry_info(error)}"] += 1
    print(json.dumps(seen))


if __name__ == "__main__":
    what, path, uid = sys.argv[1:]
    become(int(uid))
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    {each.__name__: each for each in (ping_flood, rapid_reset, never_read, zip_bomb, garbage,
                                      many_connections, many_large)}[what](path)
