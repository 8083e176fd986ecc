#!/usr/bin/env python3
"""No answer to Publish leaves the gateway before its events are on stable storage.

One strace watches a real daemon and the gateway that it starts; trace.py judges every answer.
"""

import argparse
import os
import pathlib
import sys

import rig as rigs
import trace
from rig import Broken, Untested

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration/examples"))
REQUESTS = 100


def publish(rig):
    import grpc
    import stubs

    instance = os.urandom(16)
    with grpc.insecure_channel(f"unix:{rig.runtime / 'grpc.sock'}") as channel:
        call = stubs.ingest_grpc.IngestServiceStub(channel).Publish
        for number in range(1, REQUESTS + 1):
            event = {"id": os.urandom(6) + b"\x70\x00\x80" + os.urandom(7), "time_unix_nano": 1700000000000000000,
                     "name": trace.publish_marker(number).decode()}
            request = stubs.ingest.PublishRequest(events=[event], instance=instance, number=number, oldest_number=number,
                                                  context={"app": "tool"})
            answer = call(request, timeout=60, wait_for_ready=True)
            if answer.acknowledged != number:
                raise Broken(f"request {number} was answered with {answer}")


def main():
    options = rigs.arguments(argparse.ArgumentParser(description=__doc__))
    if refused := rigs.strace_refused():
        print(f"SKIPPED: the trace of answers needs strace: {refused}")
        return rigs.SKIPPED
    summary = {}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep, commit_delay_ms=5) as rig:

        def prove():
            gateway = f'[gateway]\nprogram = "{rig.bin / "telemetryd-gateway"}"\n'
            judge = trace.PublishJudge().read(trace.record(rig, publish, more=gateway))
            summary.update(answers=len(judge.answered), acks=judge.acks, syncs=len(judge.syncs))
            if judge.problems:
                raise Broken(f"{len(judge.problems)} came too early; " + judge.problems[0])
            if len(judge.answered) != REQUESTS or judge.acks < REQUESTS:
                raise Untested(f"only {len(judge.answered)} answers and {judge.acks} acknowledgements were seen")

        return rigs.finish("grpc_ack_trace", summary, prove)


if __name__ == "__main__":
    sys.exit(main())
