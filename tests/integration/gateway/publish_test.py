"""Does what a sender publishes over gRPC reach the store, once, and is it told so in time?"""

import os
import pwd
import queue
import subprocess
import sys
import unittest

import grpc

import rig
from rig import PATIENCE, RigTest, acknowledged, event, fields, number, request, text

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Publish(RigTest):
    def test_ok_means_stored(self):
        client = self.client()
        self.assertEqual(client.publish(request([event(b"alone")])), b"")
        instance = os.urandom(16)
        answer = client.publish(request([event(b"one"), event(b"two")], instance, 1))
        self.assertEqual(acknowledged(answer), 1)
        self.assertEqual(sorted(self.rig.names()), ["alone", "one", "two"])
        self.assertEqual(self.rig.ledger()["accepted"], 3)

    def test_a_repeated_number_is_stored_once(self):
        client, instance = self.client(), os.urandom(16)
        message = request([event(b"once")], instance, 1)
        for _ in range(3):
            self.assertEqual(acknowledged(client.publish(message)), 1)
        self.assertEqual(self.rig.names(), ["once"])

    def test_bad_requests_get_the_codes_of_the_table(self):
        client, instance = self.client(), os.urandom(16)
        one = [event()]
        mixed = [event(), event(b"urgent", number(7, 1))]
        rows = [
            (b"\xff\xff", "INVALID_ARGUMENT", "malformed protobuf", None),
            (request(one, b"i" * 15, 1), "INVALID_ARGUMENT", "15 bytes and must be 16", None),
            (request(one, instance), "INVALID_ARGUMENT", "number is 0", None),
            (request(one, b"", 3), "INVALID_ARGUMENT", "number without instance", None),
            (request(one, app=b""), "INVALID_ARGUMENT", "context is missing", None),
            (request(one, app=b"Bad App"), "INVALID_ARGUMENT", "context.app", None),
            (request([]), "INVALID_ARGUMENT", "no events", None),
            (request([event(b"\xff")]), "INVALID_ARGUMENT", "UTF-8", None),
            (request(mixed), "INVALID_ARGUMENT", "urgency", None),
            (request(one, instance, 5), "ABORTED", "expected number 1", 1000),
            (request([event(more=text(99, b"x" * (1 << 20)))]), "RESOURCE_EXHAUSTED", "frame_bytes_max", None),
            (request([event(more=text(99, b"x" * (2 << 20)))]), "RESOURCE_EXHAUSTED", "larger than max", None),
        ]
        for message, code, words, retry in rows:
            refused = self.refusal(lambda each=message: client.publish(each))
            self.assertEqual((refused[0], refused[2]), (code, retry), refused)
            self.assertIn(words, refused[1])
        self.assertEqual(self.rig.names(), [])

    def test_a_number_whose_request_was_refused_for_good_is_used_up(self):
        client, instance = self.client(), os.urandom(16)
        bad = request([event(b"\xff")], instance, 1)
        self.assertEqual(self.refusal(lambda: client.publish(bad))[0], "INVALID_ARGUMENT")
        self.assertEqual(acknowledged(client.publish(request([event(b"next")], instance, 2))), 2)
        unreadable = request([event()], instance, 3, app=b"")
        self.assertEqual(self.refusal(lambda: client.publish(unreadable))[0], "INVALID_ARGUMENT")
        # The daemon never saw 3; the sender says that it is done with it.
        self.assertEqual(acknowledged(client.publish(request([event(b"last")], instance, 4, 4))), 4)
        self.assertEqual(self.rig.names(), ["next", "last"])

    def test_without_the_daemon_the_sender_is_told_to_come_back(self):
        client, instance = self.client(), os.urandom(16)
        client.publish(request([event(b"before")], instance, 1))
        self.rig.daemon.terminate()
        self.rig.daemon.wait(PATIENCE)
        message = request([event(b"after")], instance, 2)
        refused = self.refusal(lambda: client.publish(message))
        self.assertEqual(refused[0], "UNAVAILABLE")
        self.assertGreater(refused[2], 0)
        self.rig.start_daemon()
        self.assertEqual(acknowledged(client.publish(message)), 2)
        self.assertEqual(self.rig.names(), ["before", "after"])

    def test_a_call_belongs_to_the_user_of_its_connection(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to be somebody else")
        self.client().publish(request([event(b"ours")]))
        nobody = pwd.getpwnam("nobody")
        script = ("import os, sys; os.setresgid(%d, %d, %d); os.setresuid(%d, %d, %d); sys.path.insert(0, %r);"
                  "from rig import *; Client(%r).publish(request([event(b'theirs')]))"
                  % ((nobody.pw_gid,) * 3 + (nobody.pw_uid,) * 3 +
                     (os.path.dirname(os.path.abspath(rig.__file__)), self.rig.target)))
        subprocess.run([sys.executable, "-B", "-c", script], check=True, timeout=PATIENCE)
        uids = {each["name"]: each["uid"] for each in self.rig.get("/v1/events?limit=10")["events"]}
        self.assertEqual(uids, {"ours": 0, "theirs": nobody.pw_uid})


class Stream(RigTest):
    def test_answers_are_cumulative_and_refusals_do_not_end_it(self):
        instance = os.urandom(16)

        def messages():
            yield request([event(b"first")], instance, 1)
            for at in range(2, 301):
                name = b"\xff" if at == 150 else b"later"
                yield request([event(name)], b"", at, 0, b"")

        answers = list(self.client().stream(messages()))
        numbers = [acknowledged(each) for each in answers]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(numbers[-1], 300)
        refusals = [fields(each)[2][0] for each in answers if 2 in fields(each)]
        self.assertEqual(len(refusals), 1)
        refusal = fields(refusals[0])
        self.assertEqual(refusal[1], [150])
        self.assertEqual(refusal[2], [b"INVALID_EVENT"])
        self.assertEqual(self.rig.ledger()["accepted"], 299)

    def test_ends_when_the_instance_changes(self):
        first, other = os.urandom(16), os.urandom(16)
        call = self.client().stream(iter([request([event()], first, 1), request([event()], other, 2)]))
        code, words, _ = self.refusal(lambda: list(call))
        self.assertEqual(code, "INVALID_ARGUMENT")
        self.assertIn("the instance changed", words)

    def test_a_killed_gateway_loses_nothing_and_a_resend_stores_once(self):
        instance = os.urandom(16)
        messages = [request([event(b"n%d" % at)], instance, at) for at in range(1, 201)]
        sent, settled = queue.Queue(), 0

        def feed(begin):
            for message in messages[begin:begin + 120]:
                yield message
            sent.get()  # the stream stays open until the gateway is gone

        answers = self.client().stream(feed(0))
        try:
            for answer in answers:
                settled = acknowledged(answer)
                if settled >= 40:
                    self.rig.kill_gateway()
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
        sent.put(None)
        self.assertGreaterEqual(settled, 40)
        self.rig.start_gateway()
        client = self.client()
        answers = list(client.stream(iter(messages[settled:])))
        self.assertEqual(acknowledged(answers[-1]), 200)
        self.assertEqual(self.rig.names(), ["n%d" % at for at in range(1, 201)])


class Idle(RigTest):
    gateway_keys = "idle_exit_s = 1"

    def test_leaves_when_idle_and_the_next_one_takes_those_who_wait(self):
        sent = queue.Queue()
        client, instance = self.client(), os.urandom(16)

        def one_and_then_quiet():
            yield request([event(b"before")], instance, 1)
            sent.get()

        quiet = client.stream(one_and_then_quiet())
        self.assertEqual(acknowledged(next(quiet)), 1)
        # A quiet stream does not hold it; the sender hears that it may come again.
        code, _, retry = self.refusal(lambda: list(quiet))
        sent.put(None)
        self.assertEqual(code, "UNAVAILABLE")
        self.assertIsNotNone(retry)
        self.assertEqual(self.rig.gateway.wait(PATIENCE), 0)
        # Nobody accepts now: the connection waits in the queue of the socket.
        waiting = self.client()
        future = waiting.channel.unary_unary(rig.PUBLISH, rig.same, rig.same).future(
            request([event(b"after")], instance, 2), timeout=PATIENCE, wait_for_ready=True)
        self.assertTrue(rig.wait_readable(self.rig.listener))
        self.rig.start_gateway()
        self.assertEqual(acknowledged(future.result()), 2)
        self.assertEqual(self.rig.names(), ["before", "after"])


class TurnedOff(RigTest):
    """The service manager holds the sockets of a gateway that the machine's owner turned off."""
    gateway_keys = "enabled = false\nidle_exit_s = 1"

    def test_every_sender_is_told_no_at_once_and_it_still_ends_when_idle(self):
        client = self.client()
        for call in (lambda: client.publish(request([event()])),
                     lambda: list(client.stream(iter([request([event()], b"i" * 16, 1)])))):
            code, words, retry = self.refusal(call)
            self.assertEqual((code, retry), ("PERMISSION_DENIED", None))
            self.assertIn("[gateway] enabled is false", words)
        self.assertEqual(fields(client.unary(HEALTH, b""))[1], [2])
        client.close()
        self.assertEqual(self.rig.gateway.wait(PATIENCE), 0)
        with open(os.path.join(self.rig.home, "log"), "rb") as file:
            self.assertEqual(file.read().count(b"gateway_disabled"), 1)
        self.assertEqual(self.rig.ledger()["accepted"], 0)

    def test_by_hand_it_does_not_start(self):
        started = subprocess.run([os.environ["TELEMETRYD_GATEWAY"], "--config", self.rig.config, "--listen",
                                  os.path.join(self.rig.home, "other.sock")], capture_output=True, timeout=PATIENCE,
                                 check=False)
        self.assertEqual(started.returncode, 1)
        self.assertIn(b"[gateway] enabled is false", started.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.rig.home, "other.sock")))


class Tools(RigTest):
    def test_health_follows_the_daemon(self):
        client = self.client()
        for service in (b"", b"telemetry.v1.IngestService"):
            self.assertEqual(fields(client.unary(HEALTH, text(1, service)))[1], [1])
        self.assertEqual(self.refusal(lambda: client.unary(HEALTH, text(1, b"x")))[0], "NOT_FOUND")
        self.rig.daemon.terminate()
        self.rig.daemon.wait(PATIENCE)
        self.assertTrue(rig.wait_until(lambda: fields(client.unary(HEALTH, b""))[1] == [2]))

    def test_reflection_names_the_service_and_gives_its_schema(self):
        client = self.client()
        asked = iter([text(7, b""), text(4, b"telemetry.v1.IngestService")])
        services, schema = list(client.bidirectional(REFLECTION, asked))
        names = [fields(each)[1][0] for each in fields(fields(services)[6][0])[1]]
        self.assertIn(b"telemetry.v1.IngestService", names)
        files = fields(fields(schema)[4][0])[1]
        self.assertIn(b"telemetry/v1/ingest.proto", b"".join(files))
        self.assertIn(b"PublishStream", b"".join(files))

    def test_an_unknown_method_is_unimplemented(self):
        client = self.client()
        for method in ("/telemetry.v1.IngestService/Delete", "/x.Y/Z"):
            self.assertEqual(self.refusal(lambda each=method: client.unary(each, b""))[0], "UNIMPLEMENTED")


if __name__ == "__main__":
    unittest.main()
