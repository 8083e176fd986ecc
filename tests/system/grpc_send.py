#!/usr/bin/env python3
"""Publishes one event over gRPC, with messages encoded by hand from the .proto files' numbers.

usage: grpc_send.py SOCKET_OR_ADDRESS APP NAME
Prints the acknowledged number, or the status code and ends with 1.
"""

import os
import struct
import sys
import time

import grpc


def field(number, value):
    """A length-delimited field; everything here is shorter than 128 bytes or two length bytes."""
    size = len(value)
    length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + value


def uuid7():
    now = int(time.time() * 1000).to_bytes(6, "big")
    random = bytearray(os.urandom(10))
    random[0] = random[0] & 0x0F | 0x70
    random[2] = random[2] & 0x3F | 0x80
    return now + bytes(random)


def request(app, name):
    event = field(1, uuid7()) + field(3, name.encode()) + bytes([5 << 3 | 1]) + struct.pack("<Q", time.time_ns())
    return field(1, event) + field(2, os.urandom(16)) + bytes([3 << 3, 1]) + field(5, field(1, app.encode()))


def main():
    target, app, name = sys.argv[1:4]
    address = "unix:" + target if target.startswith("/") else target
    with grpc.insecure_channel(address) as channel:
        publish = channel.unary_unary("/telemetry.v1.IngestService/Publish",
                                      request_serializer=lambda message: message,
                                      response_deserializer=lambda message: message)
        try:
            answer = publish(request(app, name), timeout=20)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
            return 1
    print(answer[1] if answer[:1] == b"\x08" else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
