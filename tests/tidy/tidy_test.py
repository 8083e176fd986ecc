#!/usr/bin/env python3
"""Each rule of tidy.py finds what it is for, and leaves alone what is right."""

import tempfile
import unittest
from pathlib import Path

import tidy


def tree_of(files):
    folder = tempfile.TemporaryDirectory()
    for name, text in files.items():
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tree = tidy.Tree(folder.name, list(files))
    tree.keep = folder
    return tree


def rules_at(findings):
    return [(finding.path, finding.line, finding.rule) for finding in findings]


class Homes(unittest.TestCase):
    def test_a_header_away_from_home_is_found(self):
        tree = tree_of({"daemon/ingest/a.cc": "#include <string>\n#include <sqlite3.h>\n"})
        self.assertEqual(rules_at(tidy.check_homes(tree)), [("daemon/ingest/a.cc", 2, "home")])

    def test_a_folder_of_headers_is_found(self):
        tree = tree_of({"server/a.cc": "#include <curl/curl.h>\n"})
        self.assertEqual(len(list(tidy.check_homes(tree))), 1)

    def test_home_and_tests_are_fine(self):
        tree = tree_of({"daemon/store/a.cc": "#include <sqlite3.h>\n",
                        "tests/crash/a.cc": "#include <sqlite3.h>\n"})
        self.assertEqual(list(tidy.check_homes(tree)), [])


class Layers(unittest.TestCase):
    FILES = {
        "daemon/base/CMakeLists.txt": "telemetryd_module(base LAYER 0 SOURCES b.cc)",
        "daemon/event/CMakeLists.txt": "telemetryd_module(event LAYER 1 SOURCES e.cc DEPENDS base)",
        "daemon/store/CMakeLists.txt": "telemetryd_module(store LAYER 2 SOURCES s.cc DEPENDS event)",
    }

    def findings(self, path, text):
        return rules_at(tidy.check_module_includes(tree_of({**self.FILES, path: text})))

    def test_an_undeclared_module_is_found(self):
        self.assertEqual(self.findings("daemon/base/b.cc", '#include "store/s.h"\n'),
                         [("daemon/base/b.cc", 1, "layer")])

    def test_what_is_linked_through_another_is_fine(self):
        self.assertEqual(self.findings("daemon/store/s.cc", '#include "base/b.h"\n'), [])

    def test_own_headers_are_fine(self):
        self.assertEqual(self.findings("daemon/event/e.cc", '#include "event/e.h"\n'), [])


class Documents(unittest.TestCase):
    def test_a_dead_link_is_found_and_a_live_one_is_not(self):
        tree = tree_of({"a.md": "[x](b.md) [y](gone.md) [z](https://example.org) [w](#here)\n",
                        "b.md": ""})
        self.assertEqual(rules_at(tidy.check_links(tree)), [("a.md", 1, "link")])

    def test_code_is_no_link(self):
        tree = tree_of({"a.md": "```\n[x](gone.md)\n```\n"})
        self.assertEqual(list(tidy.check_links(tree)), [])

    def test_a_module_without_readme_is_found(self):
        tree = tree_of({"daemon/ingest/a.cc": ""})
        self.assertEqual([finding.rule for finding in tidy.check_readmes(tree)], ["readme"])

    def test_each_heading_is_asked_for(self):
        text = " ".join(tidy.README_HEADINGS[:-1])
        tree = tree_of({"daemon/ingest/a.cc": "", "daemon/ingest/README.md": text})
        found = list(tidy.check_readmes(tree))
        self.assertEqual(len(found), 1)
        self.assertIn(tidy.README_HEADINGS[-1], found[0].message)


class Tests(unittest.TestCase):
    def test_a_test_nobody_builds_is_found(self):
        tree = tree_of({"tests/unit/a/CMakeLists.txt": "SOURCES a_test.cc # b_test.cc\n",
                        "tests/unit/a/a_test.cc": "", "tests/unit/a/b_test.cc": ""})
        self.assertEqual(rules_at(tidy.check_tests_registered(tree)),
                         [("tests/unit/a/b_test.cc", 1, "test")])


    def test_a_loop_over_names_registers_them(self):
        tree = tree_of({"tests/a/CMakeLists.txt": "foreach(name a_test b_test)\n  f(${name}.cc)\n",
                        "tests/a/a_test.cc": "", "tests/a/b_test.cc": "", "tests/a/c_test.cc": ""})
        self.assertEqual([finding.path for finding in tidy.check_tests_registered(tree)],
                         ["tests/a/c_test.cc"])


class Texts(unittest.TestCase):
    def test_one_event_name_has_one_place(self):
        tree = tree_of({"a.cc": 'log::info("x_started");\n', "b.cc": 'log::warn("x_started");\n',
                        "c.cc": 'log::error(\n    "y_failed");\n'})
        self.assertEqual(rules_at(tidy.check_log_events(tree)), [("b.cc", 1, "log")])

    def test_a_name_with_blanks_is_found(self):
        tree = tree_of({"a.cc": 'log::info("It started");\n'})
        self.assertEqual(len(list(tidy.check_log_events(tree))), 1)

    def test_leftovers_are_found_and_templates_of_mkstemp_are_not(self):
        tree = tree_of({"a.cc": "// TODO: later\n", "b.cc": 'char name[] = "x-XXXXXX";\n'})
        self.assertEqual(rules_at(tidy.check_leftovers(tree)), [("a.cc", 1, "leftover")])

    def test_a_header_begins_with_its_path(self):
        tree = tree_of({"daemon/base/CMakeLists.txt": "telemetryd_module(base LAYER 0 SOURCES b.cc)",
                        "daemon/base/good.h": "// base/good.h: good.\n",
                        "daemon/base/bad.h": "#pragma once\n"})
        self.assertEqual(rules_at(tidy.check_own_path(tree)), [("daemon/base/bad.h", 1, "header")])


class Budgets(unittest.TestCase):
    def test_a_long_file_is_found(self):
        tree = tree_of({"ctl/a.h": "\n" * 251, "ctl/b.h": "\n" * 250})
        self.assertEqual(rules_at(tidy.check_budgets(tree, {})), [("ctl/a.h", 250, "size")])

    def test_an_exception_is_honoured(self):
        tree = tree_of({"ctl/a.h": "\n" * 251})
        self.assertEqual(list(tidy.check_budgets(tree, {"ctl/a.h": "reason"})), [])

    def test_a_stale_exception_is_found(self):
        tree = tree_of({"ctl/a.h": "\n"})
        self.assertEqual(len(list(tidy.check_budgets(tree, {"ctl/a.h": "r", "gone.h": "r"}))), 2)


if __name__ == "__main__":
    unittest.main()
