"""Does a sender that means harm cost itself something, and nobody else?"""

import json
import os
import pwd
import signal
import subprocess
import sys
import unittest

from http2 import END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Http2, literal
from rig import PATIENCE, RigTest, acknowledged, event, request, wait_until

READ_BELOW = 8 << 20  # Room::kReadBelow
MEMORY_MAX = 256 << 20  # of systemd/telemetryd-gateway.service

HOSTILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostile.py")


class Hostile(RigTest):
    def attack(self, what, uid=None):
        if uid is None:
            uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        return subprocess.Popen([sys.executable, "-B", HOSTILE, what, self.rig.path, str(uid)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def setUp(self):
        super().setUp()
        self.neighbour, self.instance, self.at = self.client(), os.urandom(16), 0
        self.publish_beside()

    def publish_beside(self):
        self.at += 1
        message = request([event(b"neighbour")], self.instance, self.at)
        self.assertEqual(acknowledged(self.neighbour.publish(message)), self.at)

    def outcome(self, what):
        """What the attacker saw, while a neighbour goes on publishing over one connection."""
        attacker = self.attack(what)
        while True:
            self.publish_beside()
            try:
                attacker.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                pass
        out = attacker.communicate(timeout=PATIENCE)[0]
        self.publish_beside()
        self.assertIsNone(self.rig.gateway.poll())
        return out.strip()

    def test_a_ping_flood_ends_its_connection(self):
        self.assertEqual(self.outcome("ping_flood"), "goaway [11]")

    def test_a_rapid_reset_is_cut_off(self):
        if os.geteuid() != 0:
            self.skipTest("needs root: the connections of a whole user are cut off")
        self.assertIn(self.outcome("rapid_reset"), ("cut off", "held up", "too slow"))
        self.assertLess(self.most_memory(), MEMORY_MAX // 2)

    def test_compressed_messages_are_not_unpacked(self):
        self.assertEqual(self.outcome("zip_bomb"), "refused True")

    def test_what_a_stranger_writes_does_not_get_into_the_log(self):
        block = b"".join(b"\x00" + literal(name) + literal(value) for name, value in (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"localhost"),
            (b"content-type", b"user=alice word=stranger"), (b"te", b"user=alice word=stranger")))
        for _ in range(50):
            peer = Http2(self.rig.path)
            peer.send(HEADERS, END_HEADERS | END_STREAM, 1, block)
            # Answered, so whatever is to be said about it has been said.
            for kind, _, stream, _ in peer.frames():
                if stream == 1 and kind in (HEADERS, RST_STREAM):
                    break
            peer.close()
        self.publish_beside()
        self.rig.gateway.terminate()
        self.assertEqual(self.rig.gateway.wait(PATIENCE), 0)
        with open(os.path.join(self.rig.home, "log"), "rb") as file:
            log = file.read()
        self.assertNotIn(b"stranger", log)
        self.assertNotIn(b"alice", log)
        lines = [line for line in log.splitlines() if b"grpc_errors_counted" in line]
        self.assertIn(len(lines), (1, 2, 3), log)
        self.assertGreaterEqual(sum(int(line.split(b"errors=")[1].split()[0]) for line in lines), 50)

    def test_headers_above_the_limit_are_refused(self):
        large = [("x-%d" % at, "v" * 120) for at in range(110)]
        sender = self.client()
        # gRPC ends such a connection as well, so the next call may find it closing.
        for _ in range(3):
            refused = self.refusal(lambda: sender.publish(request([event()]), large))
            self.assertIn(refused[0], ("RESOURCE_EXHAUSTED", "UNAVAILABLE"))
            self.publish_beside()

    def test_what_is_no_http2_is_closed(self):
        self.assertEqual(self.outcome("garbage"), "closed")

    def test_connections_of_one_user_are_limited(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to be two users")
        self.assertEqual(self.outcome("many_connections"), "refused 16")

    def most_memory(self):
        """The most that the gateway ever had in memory, in bytes, as the kernel accounts it."""
        with open(f"/proc/{self.rig.gateway.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))

    def test_what_many_large_calls_bring_at_once_fits_in_the_memory_of_the_unit(self):
        users = (["nobody", "daemon", "bin", "sys", "games"] if os.geteuid() == 0
                 else [pwd.getpwuid(os.geteuid()).pw_name])
        # What is accepted stays unanswered, so all that may be in the gateway is.
        self.rig.daemon.send_signal(signal.SIGSTOP)
        attackers = [self.attack("many_large", pwd.getpwnam(user).pw_uid) for user in users]
        for attacker in attackers:
            self.addCleanup(attacker.kill)
            self.assertEqual(attacker.stdout.readline(), "sent\n")
        # It reads until every user has as much unanswered as is read at all.
        self.assertTrue(wait_until(lambda: self.most_memory() > len(users) * READ_BELOW))
        self.rig.daemon.send_signal(signal.SIGCONT)
        for attacker in attackers:
            outcomes = json.loads(attacker.communicate(timeout=PATIENCE)[0])
            self.assertEqual(sum(outcomes.values()), 5 * 64)
            # Those without RetryInfo are gRPC's own words, to one of many who all do this.
            self.assertLessEqual(set(outcomes), {"OK", "RESOURCE_EXHAUSTED 1000", "RESOURCE_EXHAUSTED None", "UNAVAILABLE None"},
                                 outcomes)
            self.assertGreater(outcomes["OK"], 0)
        self.publish_beside()
        self.assertLess(self.most_memory(), MEMORY_MAX * 7 // 8)

    def test_a_stream_that_never_reads_its_refusals_is_read_no_further(self):
        attacker = self.attack("never_read")
        self.addCleanup(attacker.kill)
        word, stopped, sent = attacker.stdout.readline().split()
        self.assertEqual((word, stopped), ("stopped", "True"))
        # What HTTP/2's own windows hold beside a few requests.
        self.assertLess(int(sent), 200)
        self.publish_beside()
        attacker.communicate(timeout=PATIENCE)
        self.publish_beside()
        self.assertEqual(self.rig.ledger()["accepted"], self.at)


if __name__ == "__main__":
    unittest.main()
