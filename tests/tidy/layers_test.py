#!/usr/bin/env python3
"""The build refuses what daemon/README.md forbids: tests/tidy/layers with each fault in turn."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # CMake wraps the lines of its messages.
    return done.returncode, " ".join((done.stdout + done.stderr).split())


class Layers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def configure(self, variant):
        return run("cmake", "-S", str(HERE / "layers"), "-B", self.folder.name, "-G", "Ninja",
                   f"-DVARIANT={variant}", f"-DTELEMETRYD_SOURCE={SOURCE}", "-DTELEMETRYD_WERROR=ON")

    def build(self):
        return run("cmake", "--build", self.folder.name)

    def test_what_is_allowed_builds_and_runs(self):
        code, text = self.configure("allowed")
        self.assertEqual(code, 0, text)
        code, text = self.build()
        self.assertEqual(code, 0, text)
        self.assertEqual(run(f"{self.folder.name}/bin/layers_program")[0], 0)

    def test_a_link_upwards_stops_configure(self):
        code, text = self.configure("link")
        self.assertNotEqual(code, 0)
        self.assertIn("layer rule: telemetryd_upwards (layer 1) may not link beside (layer 2)", text)

    def test_an_include_that_is_not_declared_does_not_compile(self):
        code, text = self.configure("include")
        self.assertEqual(code, 0, text)
        code, text = self.build()
        self.assertNotEqual(code, 0)
        self.assertIn("beside/beside.h: No such file or directory", text)


if __name__ == "__main__":
    sys.exit(unittest.main())
