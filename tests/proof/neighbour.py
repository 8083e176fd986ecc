#!/usr/bin/env python3
"""One user who sends as fast as they can costs another user neither an event nor much time.

    tests/proof/neighbour.py --build build/release [--quick] [--runs N] [--seconds S]

Under the default limits, but with bytes_max = 8 GiB so that the flood evicts nothing, another user
(nobody) sends 10 events a second and waits for each answer:
alone, and then beside a user who floods over 8 connections with 64 frames in flight on each. It is
done for floods of small and of large frames. Prints the second user's waiting times and how often
the p99 beside the flood is the p99 alone; the median over the runs must not be above 3. Afterwards
the ledger must balance, with nothing of anybody's evicted, dropped or lost, and every event of the
second user accepted and none refused.

--quick does it once, shortly, and judges only what is counted: times need a quiet machine.

Needs root, to be two users; else SKIPPED.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import rig
from rig import SKIPPED, Broken, Rig, Untested

FLOODER, NEIGHBOUR = 65533, 65534
RATIO_MAX = 3.0
RATE = 10

# Frames of the flood; the connections are always 8 with 64 frames in flight.
FLOODS = {
    "single events": ["--events-per-frame", "1"],
    "frames of 100": ["--events-per-frame", "100"],
    "frames of 5000": ["--events-per-frame", "5000"],
}


def as_user(uid):
    def become():
        rig.die_with_parent()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        rig.die_with_parent()  # a change of user forgets it
    return become


class Neighbours:
    def __init__(self, rig_, seconds):
        self.rig, self.seconds = rig_, seconds
        self.program = pathlib.Path(rig_.bin).parent / "bench" / "load_client"
        self.accepted = 0

    def start(self, uid, app, seconds, *words):
        command = [self.program, "--socket", self.rig.ingest_socket, "--app", app, "--seconds", seconds, *words]
        return subprocess.Popen([str(word) for word in command], preexec_fn=as_user(uid), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def flood(self, words):
        # It ends when the neighbour has what it came for.
        process = self.start(FLOODER, "flood", 3600, "--connections", 8, "--in-flight", 64, *words)
        self.rig.started.append(process)
        before = self.rig.status()["ledger"]["accepted"]
        rig.wait_until(lambda: self.rig.status()["ledger"]["accepted"] > before + 1000, 20, "the flood to begin")
        return process

    def visit(self):
        """The neighbour's answer times; every refusal and every lost connection ends the program with 1."""
        process = self.start(NEIGHBOUR, "neighbour", self.seconds, "--rate", RATE)
        self.rig.started.append(process)
        out, err = process.communicate(timeout=self.seconds * 20 + 60)
        if process.returncode != 0:
            raise Broken(f"the neighbour was not served: {err.strip()}")
        times = json.loads(out)
        self.accepted += times["events_all"]
        return times


def end(process):
    if process.poll() is not None:
        raise Broken(f"the flood ended by itself: {process.stderr.read().strip()}")
    process.kill()
    process.wait()


def check_books(neighbours):
    ledger = json.loads(neighbours.rig.ctl("--json", "ledger", "check").stdout)
    if not ledger["check"]["balanced"]:
        raise Broken(f"the ledger does not balance: {ledger['check']['problems']}")
    own = ledger["apps"]["neighbour"]
    # Every frame that was begun was also answered.
    if own["accepted"] != neighbours.accepted:
        raise Broken(f"{own['accepted']} of the neighbour's events accepted, {neighbours.accepted} acknowledged")
    if own["queued"] != own["accepted"]:
        raise Broken(f"events of the neighbour are gone: {own}")
    if any(own["refused"].values()):
        raise Broken(f"events of the neighbour were refused: {own['refused']}")
    return own["accepted"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    options = rig.arguments(parser)
    if os.geteuid() != 0:
        print("SKIPPED: needs root, to be two users")
        return SKIPPED
    runs, seconds = (1, 2) if options.quick else (options.runs, options.seconds)
    summary = {"runs": runs, "seconds_each": seconds}

    def proof():
        with Rig(options.build, options.telemetryd, options.keep) as one:
            os.chmod(one.folder, 0o755)
            machine_id = one.folder / "machine-id"
            machine_id.write_text("0" * 31 + "1\n")
            # Everything that limits a sender is as it comes.
            one.config.write_text(f'[daemon]\nstate_dir = "{one.state}"\nruntime_dir = "{one.runtime}"\n'
                                  f'[store]\nbytes_max = {8 << 30}\n'
                                  f'[policy]\nmode = "opt-out"\n[identity]\nmachine_id_file = "{machine_id}"\n')
            one.start_daemon()
            neighbours = Neighbours(one, seconds)
            worst = 0.0
            for name, words in FLOODS.items():
                pairs = []
                for _ in range(runs):
                    alone = neighbours.visit()
                    flood = neighbours.flood(words)
                    beside = neighbours.visit()
                    end(flood)
                    pairs.append((alone, beside))
                    print(f"{name}: alone p50 {alone['p50_us']} us, p99 {alone['p99_us']} us; "
                          f"beside p50 {beside['p50_us']} us, p99 {beside['p99_us']} us")
                ratio = statistics.median(beside["p99_us"] / alone["p99_us"] for alone, beside in pairs)
                print(f"{name}: median of p99 beside / p99 alone = {ratio:.2f}")
                worst = max(worst, ratio)
            summary["worst_ratio"] = f"{worst:.2f}"
            summary["neighbours_events"] = check_books(neighbours)
            summary["slowed_down"] = one.status()["ingest"].get("rate_waits")
            one.stop_daemon()
            if not options.quick and worst > RATIO_MAX:
                raise Broken(f"beside a flood the neighbour waits {worst:.2f} times as long, allowed are {RATIO_MAX}")

    return rig.finish("neighbour", summary, proof)


if __name__ == "__main__":
    sys.exit(main())
