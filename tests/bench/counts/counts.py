#!/usr/bin/env python3
"""Counts the instructions of the hot paths and compares them with what recorded.txt says.

  counts.py --build FOLDER [--compiler "ID VERSION"] [--record]

Exit code 0: within the bound; 1: a path became dearer; 77: cannot be compared here, and says why.

What is counted, and why that holds on another machine: callgrind counts executed instructions, which
load and clock speed do not change. libc chooses its string functions by the processor, so only
instructions in files of this build are counted, and those in libsqlite3, each as a figure of its own;
calls into libc cost the calling instruction. What the compiler makes of the sources differs between
compilers, and what SQLite does between versions, so the figures say which they are for.
"""

import argparse
import pathlib
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

RECORDED = pathlib.Path(__file__).resolve().parent / "recorded.txt"
HELD, DEARER, CANNOT = 0, 1, 77
TOLERANCE = 0.03

# What, program, its part, how often it runs.
PARTS = (("track", "track_counts", "track", 1000),
         ("validate", "append_counts", "validate", 1000),
         ("append", "append_counts", "append", 200))
WORDS = {"track": "telemetry_track() with four attributes", "validate": "the daemon's check of one event",
         "append": "the commit of one frame with one event"}


class Cannot(Exception):
    """The counts cannot be taken or compared on this machine."""


def self_costs(text):
    """Instructions by object file in callgrind's uncompressed format; those of callees stand at the callee."""
    costs, current, skip = {}, "", False
    for line in text.splitlines():
        if line.startswith("ob="):
            current = line[3:]
        elif line.startswith("calls="):
            skip = True  # the next line is what the call cost, inclusive
        elif re.match(r"[+*-]?\d*\s+\d+$", line):
            if not skip:
                costs[current] = costs.get(current, 0) + int(line.split()[-1])
            skip = False
    return costs


def by_owner(costs, build):
    """Ours and SQLite's; the rest is the system's and not counted."""
    own = sum(cost for name, cost in costs.items() if name.startswith(f"{build}/"))
    sqlite = sum(cost for name, cost in costs.items() if pathlib.Path(name).name.startswith("libsqlite3.so"))
    return own, sqlite


def count(build, program, part, times):
    if not shutil.which("valgrind"):
        raise Cannot("valgrind is not installed: apt-get install valgrind")
    path = build / "bench" / program
    if not path.exists():
        raise Cannot(f"{path} is not built: cmake --build --preset release --target {program}")
    with tempfile.TemporaryDirectory(prefix="counts-") as folder:
        out = pathlib.Path(folder) / "callgrind.out"
        run = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no",
                              "--compress-pos=no", "--collect-atstart=no", "--toggle-collect=counted",
                              path, part, str(times)], capture_output=True, text=True, timeout=300, check=False)
        if run.returncode != 0 or f"part={part} times={times}" not in run.stdout:
            raise RuntimeError(f"{program} {part} failed with {run.returncode}: {run.stdout}{run.stderr}")
        own, sqlite = by_owner(self_costs(out.read_text()), build)
    if own == 0:
        raise RuntimeError(f"{program} {part}: callgrind saw nothing inside counted()")
    return round(own / times), round(sqlite / times)


def measure(build):
    figures = {}
    for name, program, part, times in PARTS:
        own, sqlite = count(build, program, part, times)
        figures[f"{name} own"] = own
        if sqlite:
            figures[f"{name} sqlite"] = sqlite
    return figures


def conditions(compiler):
    return {"machine": platform.machine(), "compiler": compiler, "sqlite": sqlite3.sqlite_version}


def read_recorded(text):
    """Conditions and figures of recorded.txt."""
    about, figures = {}, {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) == 3 and words[1] in ("own", "sqlite"):
            figures[f"{words[0]} {words[1]}"] = int(words[2])
        elif words:
            about[words[0]] = " ".join(words[1:])
    return about, figures


def write_recorded(about, figures):
    head = [line for line in RECORDED.read_text().splitlines() if line.startswith("#")]
    lines = [f"{name} {value}" for name, value in about.items()] + [f"{name} {value}" for name, value in figures.items()]
    RECORDED.write_text("\n".join([*head, *lines]) + "\n")


def compare(recorded, measured):
    """What became dearer, and what may be recorded anew, in words."""
    failures, notes = [], []
    for name in sorted(recorded.keys() | measured.keys()):
        path, owner = name.split()
        where = WORDS.get(path, path) + (" (instructions inside SQLite)" if owner == "sqlite" else "")
        if name not in measured or name not in recorded:
            failures.append(f"{where}: {'recorded' if name in recorded else 'measured'} only; record anew")
            continue
        was, now = recorded[name], measured[name]
        change = f"{where}: recorded {was}, measured {now} instructions ({(now - was) / was * 100:+.1f} %)"
        if now > was * (1 + TOLERANCE):
            failures.append(change)
        elif now < was * (1 - TOLERANCE):
            notes.append(change)
    return failures, notes


def check(build, compiler):
    about, recorded = read_recorded(RECORDED.read_text())
    here = conditions(compiler)
    if here["machine"] != about.get("machine"):
        raise Cannot(f"recorded on {about.get('machine')}, this is {here['machine']}")
    if here["compiler"] != about.get("compiler"):
        raise Cannot(f"recorded with {about.get('compiler')}, this build is by {here['compiler']}")
    measured = measure(build)
    if here["sqlite"] != about.get("sqlite"):
        print(f"counts: NOT COMPARED: SQLite's part, recorded with {about.get('sqlite')}, this is {here['sqlite']}")
        recorded = {name: value for name, value in recorded.items() if not name.endswith(" sqlite")}
        measured = {name: value for name, value in measured.items() if not name.endswith(" sqlite")}
    for name, value in measured.items():
        print(f"{name} {value}")
    return compare(recorded, measured)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, help="folder of a release build")
    parser.add_argument("--compiler", default="GNU 12.2.0", help="that made the build, as CMake names it")
    parser.add_argument("--record", action="store_true", help="write the figures to recorded.txt")
    options = parser.parse_args()
    build = options.build.resolve()
    try:
        if options.record:
            write_recorded(conditions(options.compiler), measure(build))
            print(RECORDED.read_text(), end="")
            return HELD
        failures, notes = check(build, options.compiler)
    except Cannot as why:
        print(f"counts: SKIPPED, no count was compared: {why}")
        return CANNOT
    for note in notes:
        print(f"counts: cheaper than recorded. {note}")
    for failure in failures:
        print(f"counts: FAILED. {failure}; allowed is +{TOLERANCE * 100:.0f} %")
    if failures or notes:
        print(f"counts: if that is meant, record it in the same commit and say why:\n"
              f"  {pathlib.Path(__file__).relative_to(RECORDED.parents[3])} --build {options.build} --record")
    return DEARER if failures else HELD


if __name__ == "__main__":
    sys.exit(main())
