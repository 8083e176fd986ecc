#!/usr/bin/env python3
"""The check of the tables of tests notices what is missing."""

import pathlib
import tempfile
import unittest

import shown

GOOD = "| F-01 | a | b | `Suite.Name`, tests/thing.py, `tests/thing.py:test_one` |\n"


class Shown(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "tests").mkdir()
        (self.root / "docs").mkdir()
        (self.root / "tests/a_test.cc").write_text("TEST_F(Suite,\n       Name) {}\n")
        (self.root / "tests/thing.py").write_text("def test_one(self):\n    pass\n")

    def problems(self, text):
        (self.root / "docs/page.md").write_text(text)
        return list(shown.check_page(self.root, "docs/page.md", shown.cases(self.root)))

    def test_what_is_there_is_accepted(self):
        self.assertEqual(self.problems(GOOD), [])

    def test_a_test_that_is_gone_is_noticed(self):
        self.assertEqual(len(self.problems("`Suite.Other`")), 1)

    def test_a_path_that_is_gone_is_noticed(self):
        self.assertEqual(len(self.problems("shown by tests/gone")), 1)

    def test_a_python_case_that_is_gone_is_noticed(self):
        self.assertEqual(len(self.problems("`tests/thing.py:test_two`")), 1)

    def test_a_fault_without_a_row_and_a_row_without_a_test_are_noticed(self):
        self.assertEqual(list(shown.check_rows(GOOD, ["F-01"])), [])
        self.assertEqual(len(list(shown.check_rows(GOOD, ["F-01", "F-02"]))), 1)
        self.assertEqual(len(list(shown.check_rows("| F-01 | a | b | soon |\n", ["F-01"]))), 1)
        self.assertEqual(list(shown.check_rows("| F-01 | a | b | open |\n", ["F-01"])), [])

    def test_a_delivery_without_a_verdict_or_a_test_is_noticed(self):
        head = "| situation | verdict | cause | what | shown by |\n| --- | --- | --- | --- | --- |\n"
        self.assertEqual(list(shown.check_delivery(head + "| 500 | retry | server | | `Suite.Name` |\n")), [])
        self.assertEqual(list(shown.check_delivery(head + "| 500 | retry | server | | `tests/thing.py:test_one` |\n")), [])
        for row in ("| 500 | retry | server | | soon |", "| 500 | retry | server | | `tests/thing.py` |", "| 500 | maybe | server | | `Suite.Name` |", "| 500 | retry | `Suite.Name` |", ""):
            self.assertEqual(len(list(shown.check_delivery(head + row + "\n"))), 1, row)


if __name__ == "__main__":
    unittest.main()
