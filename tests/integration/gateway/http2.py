"""A small HTTP/2 client that sends what gRPC libraries would not: frames by hand, no HPACK tables."""

import os
import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4


def literal(value):
    assert len(value) < 127
    return bytes([len(value)]) + value


def header_block(path, more=()):
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"localhost"),
               (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
    return b"".join(b"\x00" + literal(name) + literal(value) for name, value in headers)


def message(payload, compressed=False):
    return struct.pack(">BI", int(compressed), len(payload)) + payload


class Http2:
    def __init__(self, path, settings=()):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(path)
        body = b"".join(struct.pack(">HI", key, value) for key, value in settings)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, body))

    @staticmethod
    def frame(kind, flags, stream, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def send(self, *arguments):
        self.socket.sendall(self.frame(*arguments))

    def open_call(self, stream, path, more=()):
        self.send(HEADERS, END_HEADERS, stream, header_block(path, more))

    def data(self, stream, payload, flags=0):
        # The server's smallest largest frame.
        for at in range(0, len(payload), 16384):
            last = at + 16384 >= len(payload)
            self.send(DATA, flags if last else 0, stream, payload[at:at + 16384])

    def answer(self, kind, payload):
        try:
            self.send(kind, ACK, 0, payload)
        except ConnectionError:
            pass  # closed, and what it said before can still be read

    def frames(self):
        """(kind, flags, stream, payload) until the server closes; answers its SETTINGS and PINGs."""
        kept = b""
        while True:
            while len(kept) >= 9:
                size = int.from_bytes(kept[:3], "big")
                if len(kept) < 9 + size:
                    break
                kind, flags = kept[3], kept[4]
                stream = int.from_bytes(kept[5:9], "big") & 0x7FFFFFFF
                payload, kept = kept[9:9 + size], kept[9 + size:]
                if kind in (SETTINGS, PING) and not flags & ACK:
                    self.answer(kind, payload if kind == PING else b"")
                yield kind, flags, stream, payload
            got = self.socket.recv(65536)
            if not got:
                return
            kept += got

    def close(self):
        self.socket.close()


def become(uid):
    """Before anything else: the kernel tells the peer who connects."""
    if uid is not None and os.geteuid() == 0:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
