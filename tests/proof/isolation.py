#!/usr/bin/env python3
"""A destination that is dead in any way costs another one hardly any time.

A client hands in batches, waits for each acknowledgement and sees from outside when telemetry-server has
answered for the batch: that is how long its delivery took. A few batches are always under way, so that the
forwarder never has reason to end: starting it would outweigh everything. For each way of being dead it is done in
pairs, alone and beside a second destination that has a backlog and is dead in this way. The median of
a run is taken, then the ratio of each pair, then the median over the pairs, which must be at most 1.2.
Afterwards nothing of the first destination's events is missing and the ledger balances.

Compares times, so it needs the machine for itself; --quick does each once, shortly, and judges only what is counted.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import queue
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time

import rig as rigs
from rig import Broken, Rig, Untested, wait_until

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "integration" / "relay"))
import certificates  # noqa: E402

RATIO_MAX = 1.2
BATCH = 20
BACKLOG = 400
UNDER_WAY = 3  # batches
WARM_UP = 10
SAMPLES, PAIRS = 100, 9
ALIVE, DEAD = "alive", "dead"

# Way of being dead -> the causes that `destination list` may name for it.
WAYS = {
    "refused": {"connect"},
    "black hole": {"timeout"},
    "silent": {"timeout"},
    "slow-loris": {"timeout"},
    "TLS": {"tls"},
    "401": {"authentication"},
    "400": {"bad_request"},
    "429": {"rate_limit"},
    "500": {"server"},
    "DNS": {"name_resolution", "timeout"},
    "reset": {"connection_lost"},
    "endless": {"unexpected_answer"},
    "redirect": {"endpoint", "captive_portal"},
}
ANSWERS = {
    "401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "400": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n",
}


# The dead destination, a process of its own so that it takes no time from the clock.

def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError
        body += piece


def serve_one(way, connection, context):
    if way == "TLS":
        connection = context.wrap_socket(connection, server_side=True)
    if way == "reset":
        connection.recv(64)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return
    while True:
        read_request(connection)
        if way in ANSWERS:
            connection.sendall(ANSWERS[way])
        elif way == "silent":
            connection.recv(1)
        elif way == "slow-loris":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
        elif way == "endless":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                connection.sendall(bytes(1 << 16))


def play_dead(way, folder):
    """Says its port, and goes on until it is killed."""
    context = None
    if way == "TLS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/stranger.pem", f"{folder}/stranger.key")
    listening = socket.create_server(("127.0.0.1", 0), backlog=0 if way == "black hole" else 64)
    port = listening.getsockname()[1]
    kept = []
    if way == "refused":
        listening.close()
    elif way == "black hole":
        # Once nobody accepts and the queue is full, the kernel drops every further SYN.
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            kept.append(one)
    print(port, flush=True)
    while way in ("refused", "black hole", "DNS"):
        time.sleep(60)

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            serve_one(way, connection, context)
    while True:
        threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()


# The one that is alive, and its client.

class TimedGate(rigs.Gate):
    """Knows when each request was answered."""

    def __init__(self):
        super().__init__()
        self.asked = False
        self.answers = queue.SimpleQueue()

    def _pump(self, source, sink, is_request):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                # An answer may come in pieces; the next request does not come before the last of them.
                if is_request:
                    self.asked = True
                elif self.asked:
                    self.asked = False
                    self.answers.put(time.monotonic())
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def event():
    now = time.time_ns()
    identifier = struct.pack(">Q", now // 1_000_000)[2:] + bytes([0x70]) + os.urandom(1) + bytes([0x80]) + os.urandom(7)
    return field(1, field(1, identifier) + field(3, b"proof") + b"\x29" + struct.pack("<Q", now))


class Client:
    """Frames of one batch, each acknowledged before the next."""

    EVENTS, ACK, COMMIT_NOW = 2, 65, 1

    def __init__(self, path, app):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.socket.sendall(rigs.hello_frame(app))
        self.number = 0
        self.rest = b""

    def frame(self):
        """The next one's type and payload."""
        while len(self.rest) < 8 or len(self.rest) < 8 + struct.unpack_from("<I", self.rest)[0]:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise Broken("the daemon hung up on the client")
            self.rest += piece
        length, kind = struct.unpack_from("<IB", self.rest)
        payload, self.rest = self.rest[8:8 + length], self.rest[8 + length:]
        return kind, payload

    def hand_in(self, events):
        """Returns when it was acknowledged."""
        self.number += 1
        payload = struct.pack("<QIBBH", self.number, events, 0, 0, 0) + b"".join(event() for _ in range(events))
        self.socket.sendall(struct.pack("<IBBH", len(payload), self.EVENTS, self.COMMIT_NOW, 0) + payload)
        while True:
            kind, answer = self.frame()
            if kind == self.ACK and struct.unpack("<Q", answer)[0] >= self.number:
                return time.monotonic()
            if kind in (66, 68):
                raise Broken(f"the daemon refused a batch: {answer[8:]!r}")

    def close(self):
        self.socket.close()


class Isolation:
    def __init__(self, rig, samples):
        self.rig, self.samples = rig, samples
        self.issued = 0
        self.alive = rig.destination_at_server(ALIVE)

    def configure(self, dead=""):
        """`dead` is what stands in the file for the other destination and its app."""
        self.rig.write_config(self.alive + dead, f'[[route]]\napp = "{ALIVE}"\ndestination = "{ALIVE}"\n')
        text = self.rig.config.read_text()
        # The final delivery of a stop would wait for the dead.
        self.rig.config.write_text(text.replace("[forward]\n", "[forward]\nsync_on_shutdown = false\n"))

    def store_backlog(self):
        """For the dead, while it has no destination."""
        self.configure()
        self.rig.start_server()
        self.rig.start_daemon()
        client = Client(self.rig.ingest_socket, DEAD)
        for _ in range(BACKLOG // BATCH):
            client.hand_in(BATCH)
        client.close()
        self.rig.stop_daemon()

    def measure(self, dead, way):
        """The median of the deliveries' times in milliseconds."""
        rig = self.rig
        self.configure(dead)
        rig.start_daemon()
        client = Client(rig.ingest_socket, ALIVE)
        under_way = collections.deque()
        times = []
        for place in range(WARM_UP + self.samples + UNDER_WAY):
            if place < WARM_UP + self.samples:
                under_way.append(client.hand_in(BATCH))
                self.issued += BATCH
            if place >= UNDER_WAY:
                # Oldest first, and a lease is a batch: answers come in the order of the batches.
                times.append(1000 * (self.next_answer() - under_way.popleft()))
        client.close()
        wait_until(lambda: rig.destination(ALIVE)["state"] == "idle", 30, "the last outcome")
        if not rig.gate.answers.empty():
            raise Untested("a batch was delivered twice: the machine is too slow to compare times on it")
        if dead:
            self.check_death(way)
        rig.stop_daemon()
        return statistics.median(times[WARM_UP:])

    def next_answer(self):
        try:
            return self.rig.gate.answers.get(timeout=60)
        except queue.Empty as late:
            raise Broken(f"a batch was not delivered in 60 s: {self.rig.destination(ALIVE)}") from late

    def check_death(self, way):
        """It has been tried and died as it should, or is still being tried."""
        other = self.rig.destination(self.name_of(way))
        cause = other.get("cause")
        if cause not in WAYS[way] if cause else other.get("state") != "sending":
            raise Untested(f"the dead destination did not die of {sorted(WAYS[way])}: {other}")

    @staticmethod
    def name_of(way):
        # One each: the daemon keeps what it knows of a destination under its name.
        return f"{DEAD}-{list(WAYS).index(way)}"

    def dead_destination(self, way, port):
        scheme = "https" if way == "TLS" else "http"
        host = "nowhere.invalid" if way == "DNS" else "127.0.0.1"
        name = self.name_of(way)
        return (self.alive.replace(f'name = "{ALIVE}"', f'name = "{name}"')
                .replace(f"http://127.0.0.1:{self.rig.gate.port}", f"{scheme}://{host}:{port}")
                + ("allow_plain_http = true\n" if way == "DNS" else "")
                + f'[[route]]\napp = "{DEAD}"\ndestination = "{name}"\n')

    def compare(self, way, pairs):
        """The median ratio of beside to alone."""
        player = self.rig.spawn(sys.executable, "-B", __file__, "--play", way, "--folder", self.rig.folder,
                                stdout=subprocess.PIPE, text=True)
        dead = self.dead_destination(way, int(player.stdout.readline()))
        ratios, alones, besides = [], [], []
        for pair in range(pairs):
            # Who is first gains or loses nothing by it.
            order = ("", dead) if pair % 2 == 0 else (dead, "")
            took = {bool(which): self.measure(which, way) for which in order}
            alones.append(took[False])
            besides.append(took[True])
            ratios.append(took[True] / took[False])
        player.kill()
        player.wait()
        player.stdout.close()
        ratio = statistics.median(ratios)
        print(f"{way}: alone {statistics.median(alones):.2f} ms, beside {statistics.median(besides):.2f} ms; "
              f"median of {pairs} ratios {ratio:.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
        return ratio

    def check_the_end(self):
        rig = self.rig
        rig.start_daemon()
        rig.check_ledger()
        ledger = rig.ctl("--json", "ledger", "check").stdout
        rig.stop_daemon()
        rig.stop_server()
        rows, _ = rig.arrivals()
        if len(rows) != self.issued or len({row[0] for row in rows}) != self.issued:
            raise Broken(f"{self.issued} events were acknowledged, {len(rows)} arrived: {ledger}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="batches of a run")
    parser.add_argument("--way", action="append", choices=WAYS, help="only this one; may be given again")
    parser.add_argument("--play", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    if "--play" in sys.argv:
        options = parser.parse_args()
        rigs.die_with_parent()
        return play_dead(options.play, options.folder)
    options = rigs.arguments(parser)
    ways = options.way or list(WAYS)
    pairs, samples = (1, 20) if options.quick else (options.pairs, options.samples)
    summary = {"seed": options.seed, "pairs": pairs, "samples": samples, "ways": len(ways)}

    def proof():
        with Rig(options.build, options.telemetryd, options.keep, batch_events_max=BATCH, request_timeout_s=3) as one:
            certificates.make(one.folder)
            one.gate.close()
            one.gate = TimedGate()
            isolation = Isolation(one, samples)
            isolation.store_backlog()
            ratios = {way: isolation.compare(way, pairs) for way in ways}
            worst = max(ratios, key=ratios.get)
            summary.update(median_ratio=f"{statistics.median(ratios.values()):.2f}", worst_ratio=f"{ratios[worst]:.2f}",
                           worst_way=worst.replace(" ", "_"), events=isolation.issued)
            isolation.check_the_end()
            slow = [f"{way} ({ratio:.2f})" for way, ratio in ratios.items() if ratio > RATIO_MAX]
            if slow and not options.quick:
                raise Broken(f"beside a dead destination deliveries take more than {RATIO_MAX} times as long: {', '.join(slow)}")

    return rigs.finish("isolation", summary, proof)


if __name__ == "__main__":
    sys.exit(main())
