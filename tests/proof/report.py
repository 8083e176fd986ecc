#!/usr/bin/env python3
"""What scripts/prove has seen, added up and judged: a report in Markdown, and RESULT in the last line.

A run that is not quick must have seen enough: images of power cuts and kills are counted, and too
few are a failure as a broken claim is. One that left proofs out, or soaked for less than an hour, is partial: it names them
and ends with 3.
"""

import argparse
import collections
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys

IMAGES_MIN, KILLS_MIN = 10_000, 500
SOAK_MINUTES_MIN = 60
FUZZERS = tuple(sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "fuzz").glob("*_fuzz.cc")))
# What a run that is not quick makes; the names are those of scripts/prove.
WHOLE = ("power_cut_test", "store_model_test", "ack_trace", "grpc_ack_trace", "raw_uid", "neighbour", "isolation", "crash_points", "forwarder_phases",
         "disk_faults", "kill_proof", "oracle", "system", "sabotage", *FUZZERS)
SKIPPED = 77
PARTIAL = 3  # nothing failed, and not everything was made
FIGURE = re.compile(r"(\w+)=(\{.*?\}|\S+)")
SEEN = re.compile(r"^ +(\d+)(?: of \d+)? (\S.*)$", re.M)


class Proof:
    def __init__(self, line):
        file, self.name, code, took, self.command = line.rstrip("\n").split("\t")
        self.code, self.took = int(code), int(took)
        self.text = pathlib.Path(file).read_text(errors="replace")
        lines = [found for found in self.text.splitlines() if found.startswith((self.name + ":", "images=", "TELEMETRYD_TEST_SEED="))]
        self.figures = dict(FIGURE.findall(" ".join(lines)))
        # Each test of the program counts its own images.
        self.images = sum(int(count) for count in re.findall(r"^images=\d+ distinct=(\d+)", self.text, re.M))

    @property
    def word(self):
        return {0: "held", SKIPPED: "SKIPPED"}.get(self.code, f"FAILED ({self.code})")

    @property
    def seed(self):
        return self.figures.get("seed") or self.figures.get("TELEMETRYD_TEST_SEED") or ""

    def number(self, name):
        return int(self.figures.get(name, 0))

    def seen(self):
        """The lines that count what happened."""
        return [(int(count), what) for count, what in SEEN.findall(self.text)]


def outputs(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def totals(proofs):
    by_name = {proof.name: proof for proof in proofs}

    def number(name, *figures):
        return sum(by_name[name].number(figure) for figure in figures) if name in by_name else 0

    oracle_kills = sum(count for count, what in by_name["oracle"].seen() if what.startswith("kill ")) if "oracle" in by_name else 0
    return {
        "power-cut images, distinct": by_name["power_cut_test"].images if "power_cut_test" in by_name else 0,
        "kills": number("kill_proof", "kills", "drain_kills", "forwarder_kills") + number("crash_points", "crashes")
        + number("forwarder_phases", "kills") + oracle_kills,
        "of these at a system call": number("crash_points", "crashes") + number("forwarder_phases", "kills"),
        "of these during a recovery": number("crash_points", "during_recovery"),
        "system calls made to fail": number("disk_faults", "injected"),
        "events acknowledged": number("oracle", "acknowledged") + number("kill_proof", "events") + number("crash_points", "events")
        + number("disk_faults", "events") + number("forwarder_phases", "events"),
        "lost": number("oracle", "lost"),
        "stored twice at the server": number("oracle", "stored_twice"),
        "sent again and recognised": number("oracle", "sent_again") + number("kill_proof", "duplicates")
        + number("crash_points", "sent_again") + number("disk_faults", "sent_again") + number("forwarder_phases", "sent_again"),
    }


def judge(proofs, sums, quick):
    problems = [f"{proof.name} ended with {proof.code}" for proof in proofs if proof.code not in (0, SKIPPED)]
    ran = {proof.name for proof in proofs if proof.code == 0}
    if not quick:
        problems += [f"{name} was not made" for name in ("power_cut_test", "crash_points", "forwarder_phases", "disk_faults", "kill_proof",
                                                             "oracle")
                     if name not in ran and not any(problem.startswith(name) for problem in problems)]
        if sums["power-cut images, distinct"] < IMAGES_MIN:
            problems.append(f"fewer than {IMAGES_MIN} images")
        # Those of the forwarder alone threaten nothing that is stored.
        of_forwarder = sum(proof.number("kills") for proof in proofs if proof.name == "forwarder_phases")
        if sums["kills"] - of_forwarder < KILLS_MIN:
            problems.append(f"fewer than {KILLS_MIN} kills")
    elif not ran:
        problems.append("nothing ran")
    return problems


def left_out(proofs, quick):
    """What a whole run has and this one has not; a quick one is none."""
    if quick:
        return []
    names = {proof.name: proof for proof in proofs}
    missing = [name for name in WHOLE if name not in names or names[name].code == SKIPPED]
    if names.get("oracle"):
        minutes = float(names["oracle"].figures.get("minutes", 0))
        if minutes < SOAK_MINUTES_MIN and "oracle" not in missing:
            missing.append(f"a soak of {SOAK_MINUTES_MIN} minutes (it was {minutes:g})")
    return missing


def result_line(proofs, problems, missing):
    held = sum(1 for proof in proofs if proof.code == 0)
    skipped = sum(1 for proof in proofs if proof.code == SKIPPED)
    without = f"; left out: {', '.join(missing)}" if missing else ""
    if problems:
        return f"RESULT: FAILED {'; '.join(problems)}; {held} of {len(proofs)} proofs held{without}"
    if missing:
        return f"RESULT: partial, {held} proofs held{without}"
    return f"RESULT: ok, {held} proofs held" + (f", {skipped} skipped" if skipped else "")


def faults_by_kind(proofs):
    kinds = collections.Counter()
    for proof in proofs:
        if proof.name == "crash_points":
            for count, what in proof.seen():
                kinds[f"killed at: {what.split(':')[0]}"] += count
        elif proof.name == "forwarder_phases":
            for count, what in proof.seen():
                kinds[f"forwarder killed: {what}"] += count
        elif proof.name == "disk_faults":
            for count, what in proof.seen():
                if count:
                    kinds[f"failed: {what}"] += count
        elif proof.name == "oracle":
            for count, what in proof.seen():
                kinds[f"oracle: {what}"] += count
        elif proof.name == "power_cut_test":
            for phase, count in proof.figures.items():
                if phase in ("open", "commit", "settlement", "checkpoint", "eviction", "erasure", "migration", "recovery", "close"):
                    kinds[f"power cut: {phase}"] += int(count)
    return kinds


def write(path, proofs, sums, line, quick):
    out = ["# Proof report", "",
           "Written by `scripts/prove`; what each proof does is in [tests/proof](../tests/proof/README.md), the faults and their tests in "
           "[faults.md](faults.md).", "",
           f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {platform.system()} {platform.release()} {platform.machine()}, "
           f"{os.cpu_count()} processors, revision {outputs(['git', 'describe', '--always', '--dirty'])}{', quick' if quick else ''}.", "",
           f"**{line}**", "", "| seen | number |", "| --- | --- |"]
    out += [f"| {name} | {format(value, ',').replace(',', ' ')} |" for name, value in sums.items()]
    out += ["", "## Proofs", "", "| proof | | seconds | seed |", "| --- | --- | --- | --- |"]
    out += [f"| {proof.name} | {proof.word} | {proof.took} | {proof.seed} |" for proof in proofs]
    out += ["", "## Faults by kind", "", "| fault | times |", "| --- | --- |"]
    out += [f"| {kind} | {count} |" for kind, count in sorted(faults_by_kind(proofs).items())]
    out += ["", "## In their own words", ""]
    for proof in proofs:
        lines = [found for found in proof.text.splitlines() if found.startswith((proof.name + ":", "images=", "RESULT:", "SKIPPED"))
                 or "caught by" in found or (proof.code not in (0, SKIPPED) and found in proof.text.splitlines()[-10:])]
        out += [f"`{proof.name}`", "", "```", *(found[:400] for found in lines), "```", ""]
    pathlib.Path(path).write_text("\n".join(out).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="a line for each proof: file, name, exit code, seconds, command")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report")
    options = parser.parse_args()
    proofs = [Proof(line) for line in open(options.results)]
    sums = totals(proofs)
    problems = judge(proofs, sums, options.quick)
    missing = left_out(proofs, options.quick)
    line = result_line(proofs, problems, missing)
    for name, value in sums.items():
        print(f"{name}: {value}")
    if options.report:
        write(options.report, proofs, sums, line, options.quick)
    print(line)
    if problems:
        return 1
    return PARTIAL if missing else 0


if __name__ == "__main__":
    sys.exit(main())
