#!/usr/bin/env python3
"""Does the gate of counts.py bite? Comparison and parsing on made-up figures, and, with --build, a track() that
was made slower on purpose."""

import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import counts  # noqa: E402

BUILD = None

OUTPUT = """events: Ir

ob=/src/build/release/bench/append_counts
fl=/src/a.cc
fn=counted
10 7
cob=/usr/lib/libc.so.6
cfn=memcpy
calls=3 20
11 900
12 5

ob=/usr/lib/libc.so.6
fn=memcpy
20 900

ob=/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6
fn=sqlite3_step
0 40
+2 2

ob=/src/build/release/client/libtelemetry.so.0.1.0
fn=telemetry_track
30 1
"""


class Counting(unittest.TestCase):
    def test_each_file_has_its_own_instructions_and_not_those_it_called(self):
        costs = counts.self_costs(OUTPUT)
        self.assertEqual(costs["/src/build/release/bench/append_counts"], 12)
        self.assertEqual(costs["/usr/lib/libc.so.6"], 900)
        self.assertEqual(counts.by_owner(costs, pathlib.Path("/src/build/release")), (13, 42))


class Comparing(unittest.TestCase):
    def test_the_bound_is_three_percent(self):
        self.assertEqual(counts.compare({"track own": 1000}, {"track own": 1030}), ([], []))
        failures, _ = counts.compare({"track own": 1000}, {"track own": 1031})
        self.assertEqual(len(failures), 1)
        for word in ("telemetry_track()", "1000", "1031", "+3.1 %"):
            self.assertIn(word, failures[0])

    def test_cheaper_is_told_and_no_failure(self):
        failures, notes = counts.compare({"append sqlite": 1000}, {"append sqlite": 900})
        self.assertEqual(failures, [])
        self.assertIn("inside SQLite", notes[0])

    def test_a_figure_that_is_missing_on_either_side_fails(self):
        self.assertEqual(len(counts.compare({"track own": 1}, {})[0]), 1)
        self.assertEqual(len(counts.compare({}, {"track own": 1})[0]), 1)

    def test_the_recorded_file_has_every_path(self):
        about, figures = counts.read_recorded(counts.RECORDED.read_text())
        self.assertEqual(set(about), {"machine", "compiler", "sqlite"})
        self.assertLessEqual({f"{name} own" for name, *_ in counts.PARTS} | {"append sqlite"}, set(figures))

    def test_another_machine_is_not_compared(self):
        with self.assertRaises(counts.Cannot):
            counts.check(pathlib.Path("/nowhere"), "Other 1.0")


class Biting(unittest.TestCase):
    def test_one_attribute_more_fails(self):
        if BUILD is None:
            self.skipTest("needs --build")
        try:
            slower, _ = counts.count(BUILD, "track_counts", "slower", 1000)
        except counts.Cannot as why:
            self.skipTest(str(why))
        as_usual, _ = counts.count(BUILD, "track_counts", "track", 1000)
        failures, _ = counts.compare({"track own": as_usual}, {"track own": slower})
        self.assertEqual(len(failures), 1, f"{as_usual} and {slower} instructions")


if __name__ == "__main__":
    if "--build" in sys.argv:
        at = sys.argv.index("--build")
        BUILD = pathlib.Path(sys.argv[at + 1]).resolve()
        del sys.argv[at:at + 2]
    unittest.main()
