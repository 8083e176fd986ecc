#!/usr/bin/env python3
"""No acknowledgement leaves the daemon before its events are on stable storage.

strace watches a real daemon while producers hand in events; trace.py judges every ACK that it sent.
"""

import argparse
import sys

import rig as rigs
import trace
from rig import Broken, Untested


def hand_in(rig, quick):
    singles = 100 if quick else 1000
    producers = [rigs.Producer(rig, "waits", 1, singles, flush_each=True),
                 rigs.Producer(rig, "streams", 2, 20 * singles, frame_bytes=2048),
                 rigs.Producer(rig, "streams", 3, 20 * singles, frame_bytes=512)]
    for producer in producers:
        last = producer.finish(240)
        if last["acknowledged"] != producer.events:
            raise Broken(f"{producer.name} handed in {producer.events} events and was told {last}")


def main():
    options = rigs.arguments(argparse.ArgumentParser(description=__doc__))
    if refused := rigs.strace_refused():
        print(f"SKIPPED: the trace of acknowledgements needs strace: {refused}")
        return rigs.SKIPPED
    summary = {}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep, commit_delay_ms=5) as rig:

        def prove():
            judge = trace.Judge().read(trace.record(rig, lambda rig: hand_in(rig, options.quick)))
            summary.update(frames=judge.frames, acks=judge.acks, syncs=len(judge.syncs))
            if judge.problems:
                raise Broken(f"{len(judge.problems)} of {judge.acks} acknowledgements came too early; " + judge.problems[0])
            enough = 100 if options.quick else 1000
            if judge.acks < enough or judge.frames < enough:
                raise Untested(f"only {judge.frames} frames and {judge.acks} acknowledgements were seen")

        return rigs.finish("ack_trace", summary, prove)


if __name__ == "__main__":
    sys.exit(main())
