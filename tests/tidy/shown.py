#!/usr/bin/env python3
"""Whether the tests that docs/faults.md, docs/delivery.md and docs/features.md name are there, every fault has its row, and every
delivery that can happen its test.

A test is named as `Suite.Name`, a proof or folder by its path, a case of a Python test as
`path.py:case`. What says `open` has no test yet, `excused` needs what is not here.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DELIVERY = "docs/delivery.md"
PAGES = ("docs/faults.md", DELIVERY, "docs/features.md")
FAULTS = [f"F-{number:02}" for number in (*range(1, 31), *range(53, 76))]

CASE = re.compile(r"^\s*TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.M)
NAMED_CASE = re.compile(r"`([A-Z]\w*)\.([A-Z]\w+)`")
NAMED_PATH = re.compile(r"(?<![\w/.])((?:tests|docs|daemon|client|ctl|server|proto|scripts|systemd|packaging)/[\w./-]*\w)(?::(\w+))?")
ROW = re.compile(r"^\| (F-\d+) \|(.*)\|([^|]*)\|$", re.M)


def cases(root):
    found = set()
    for path in (root / "tests").rglob("*.cc"):
        found.update(CASE.findall(path.read_text(errors="replace")))
    return found


def check_page(root, page, known):
    text = (root / page).read_text()
    for number, line in enumerate(text.splitlines(), start=1):
        for suite, name in NAMED_CASE.findall(line):
            if (suite, name) not in known:
                yield f"{page}:{number}: there is no test {suite}.{name}"
        for path, case in NAMED_PATH.findall(line):
            if not (root / path).exists():
                yield f"{page}:{number}: there is no {path}"
            elif case and not re.search(rf"\bdef {case}\b", (root / path).read_text(errors="replace")):
                yield f"{page}:{number}: {path} has no {case}"


def check_rows(text, faults):
    rows = [(number, shown) for number, _, shown in ROW.findall(text)]
    for fault in faults:
        count = sum(1 for number, _ in rows if number == fault)
        if count != 1:
            yield f"docs/faults.md: {fault} has {count} rows, not one"
    for number, shown in rows:
        if "`" not in shown and "open" not in shown.lower() and "excused" not in shown.lower():
            yield f"docs/faults.md: {number} names no test and does not say that it is open"


def check_delivery(text):
    """Each row of the page's tables names its verdict and a test in its last column."""
    rows = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("| ") or line.startswith(("| situation |", "| --- |")):
            continue
        rows += 1
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5:
            yield f"{DELIVERY}:{number}: {len(cells)} columns, not 5"
        elif not re.match(r"(delivered|retry|hold|divide|as with)", cells[1]):
            yield f"{DELIVERY}:{number}: {cells[1]!r} is no verdict"
        elif not (NAMED_CASE.search(cells[4]) or any(case for _, case in NAMED_PATH.findall(cells[4]))):
            yield f"{DELIVERY}:{number}: no test shows it"
    if rows == 0:
        yield f"{DELIVERY}: has no rows"


def check(root):
    known = cases(root)
    problems = [problem for page in PAGES for problem in check_page(root, page, known)]
    problems += check_delivery((root / DELIVERY).read_text())
    return problems + list(check_rows((root / "docs/faults.md").read_text(), FAULTS))


def main():
    problems = check(ROOT)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
