#!/usr/bin/env python3
"""Sends numbered events to telemetryd over grpc.sock and ends when all are on stable storage.

Exit codes: 0 all acknowledged, 1 failed, 2 usage, 3 collection is off.
"""

import argparse
import contextlib
import os
import sys

import grpc

import sender

EVENTS_PER_REQUEST = 10


def absolute(name):
    value = os.environ.get(name, "")
    return value if value.startswith("/") else None


def default_socket():
    """The system's telemetryd, else the one of this user: never a folder that others may write to."""
    folder = "/run/telemetryd"
    if not os.path.isdir(folder):
        runtime = absolute("XDG_RUNTIME_DIR")
        state = absolute("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        folder = os.path.join(runtime, "telemetryd") if runtime else os.path.join(state, "telemetryd/run")
    return os.path.join(folder, "grpc.sock")


def count(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a number of events: {text!r}")
    return int(text)


def numbered(number):
    event = sender.new_event("example")
    event.attributes.add(key="n", int_value=number)
    return event


def send(events, options):
    flush = events.flush_stream if options.stream else events.flush
    for first in range(0, options.count, EVENTS_PER_REQUEST):
        batch = [numbered(number) for number in range(first, min(options.count, first + EVENTS_PER_REQUEST))]
        while not events.add(batch):
            flush()
    flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default=default_socket())
    parser.add_argument("--app", default="grpc-example")
    parser.add_argument("--count", type=count, default=100)
    parser.add_argument("--stream", action="store_true", help="PublishStream instead of Publish")
    options = parser.parse_args()
    try:
        with contextlib.closing(sender.Sender(options.socket, options.app)) as events:
            if not os.path.exists(options.socket):
                print(f"failed: there is no {options.socket}: start telemetryd, or name its grpc.sock with --socket",
                      file=sys.stderr)
                return 1
            send(events, options)
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
