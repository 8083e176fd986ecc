#!/usr/bin/env python3
"""Does what the server's administrator mutes stay on the machines, and come when it is unmuted?

A real telemetryd, telemetryd-forward and telemetry-server on the loopback.
"""

import argparse
import json
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2] / "proof")]
import rig as rigs  # noqa: E402

OPTIONS = argparse.Namespace()
APPLICATION = "proof/machine"  # as Rig makes it


class MuteTest(unittest.TestCase):
    def setUp(self):
        self.rig = rigs.Rig(OPTIONS.build)
        self.addCleanup(self.rig.__exit__, None, None, None)
        self.rig.write_config(self.rig.destination_at_server("upstream"),
                              '[[route]]\napp = "*"\ndestination = "upstream"\n')
        self.rig.start_server()
        self.rig.start_daemon()

    def admin(self, *words, **options):
        return self.rig.run(self.rig.bin / "telemetry-server", "app", *words, "--database",
                            f"sqlite:{self.rig.server_database}", **options)

    def send(self, *apps):
        for app in apps:
            self.rig.ctl("event", "send", "--app", app, "--name", "made")

    def wait_delivered(self, count):
        try:
            rigs.wait_until(lambda: self.rig.status()["ledger"]["delivered"] == count, 60, f"{count} delivered events")
        except rigs.Untested as late:
            self.fail(f"{late}: {self.rig.status()['ledger']} {self.rig.destination()}\n{self.rig.log_tail()}")

    def muted(self):
        return self.rig.destination()["muted_s"]

    def arrived(self):
        listed = self.rig.run(self.rig.bin / "telemetry-server", "event", "list", "--json", "--database",
                              f"sqlite:{self.rig.server_database}")
        return sorted(json.loads(line)["app"] for line in listed.stdout.splitlines())

    def test_one_app_waits_while_others_go_on_until_it_is_unmuted(self):
        # A daemon heeds no name that it has no events of.
        self.send("loud", "quiet")
        self.wait_delivered(2)
        self.admin("mute", APPLICATION, "--for", "2h", "--client-app", "loud")
        self.send("quiet")
        self.wait_delivered(3)
        self.assertLessEqual(7100, self.muted()["loud"])
        self.assertGreaterEqual(7200, self.muted()["loud"])

        self.send("loud", "quiet")
        self.wait_delivered(4)
        self.assertEqual(self.rig.status()["ledger"]["queued"], 1)

        # The word is the database's, not the process's.
        self.rig.stop_server()
        self.rig.start_server()
        self.send("quiet")
        self.wait_delivered(5)
        self.assertIn("loud", self.muted())
        self.assertEqual(self.arrived(), ["loud"] + ["quiet"] * 4)

        self.admin("unmute", APPLICATION, "--client-app", "loud")
        self.send("quiet")
        self.wait_delivered(7)
        self.assertEqual(self.muted(), {})
        self.assertEqual(self.arrived(), ["loud"] * 2 + ["quiet"] * 5)

    def test_all_apps_wait_after_their_next_upload(self):
        self.admin("mute", APPLICATION, "--for", "1d")
        self.send("one", "other")
        self.wait_delivered(2)
        self.assertEqual(sorted(self.muted()), ["one", "other"])
        self.send("one")
        self.assertEqual(self.rig.ctl("queue", "flush", check=False).returncode, 1, "one event is left")
        self.assertEqual(self.arrived(), ["one", "other"])

    def test_the_list_shows_it_and_wrong_words_are_named(self):
        self.admin("mute", APPLICATION, "--for", "30m", "--client-app", "loud")
        shown = json.loads(self.admin("list", "--json").stdout)
        self.assertEqual([mute["client_app"] for mute in shown["muted"]], ["loud"])
        self.assertIn(": loud", self.admin("list").stdout)
        self.admin("unmute", APPLICATION)
        self.assertNotIn("muted", json.loads(self.admin("list", "--json").stdout))
        for status, words in ((1, ("unmute", APPLICATION)), (1, ("mute", "proof/none", "--for", "1h")),
                              (2, ("mute", "proof", "--for", "1h")), (2, ("mute", APPLICATION, "--for", "2")),
                              (2, ("mute", APPLICATION, "--for", "400d")), (2, ("mute", APPLICATION))):
            self.assertEqual(self.admin(*words, check=False).returncode, status, words)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    return unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    sys.exit(main())
