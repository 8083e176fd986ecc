#!/usr/bin/env python3
"""Sends numbered events to telemetryd over grpc.sock and ends when all are on stable storage.

Exit codes: 0 all acknowledged, 1 failed, 3 collection is off.
"""

import argparse
import os
import sys

import grpc

import sender

EVENTS_PER_REQUEST = 10


def default_socket():
    folder = "/run/telemetryd"
    if not os.path.isdir(folder):
        folder = os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/tmp"), "telemetryd")
    return os.path.join(folder, "grpc.sock")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default=default_socket())
    parser.add_argument("--app", default="grpc-example")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--stream", action="store_true", help="PublishStream instead of Publish")
    options = parser.parse_args()

    def numbered(number):
        event = sender.new_event("example")
        event.attributes.add(key="n", int_value=number)
        return event

    # A channel that lost its gateway connects again at most this late.
    channel = grpc.insecure_channel("unix:" + options.socket, options=[("grpc.max_reconnect_backoff_ms", 1000)])
    with channel:
        events = sender.Sender(channel, options.app)
        flush = events.flush_stream if options.stream else events.flush
        try:
            for first in range(0, options.count, EVENTS_PER_REQUEST):
                batch = [numbered(number) for number in range(first, min(options.count, first + EVENTS_PER_REQUEST))]
                while not events.add(batch):
                    flush()
            flush()
        except sender.CollectionOff as off:
            print(f"collection is off: {off}", file=sys.stderr)
            return 3
        except (grpc.RpcError, TimeoutError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    for number, code, message in events.refused:
        print(f"request {number} was refused: {code}: {message}", file=sys.stderr)
    print(f"acknowledged {options.count} events, {events.resent} requests sent again")
    return 1 if events.refused else 0


if __name__ == "__main__":
    sys.exit(main())
