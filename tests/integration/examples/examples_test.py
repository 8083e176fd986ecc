#!/usr/bin/env python3
"""Do apps in other languages get their events through with nothing but the .proto files?

The three apps of client/grpc against the real telemetryd and telemetryd-gateway. Each is asked the
same, so what one language's gRPC library does differently shows.
"""

import argparse
import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT / "tests/proof")]
import node_packages  # noqa: E402
import rig as rigs  # noqa: E402
import stubs  # noqa: E402

import grpc  # noqa: E402

OPTIONS = argparse.Namespace()


class Machine(rigs.Rig):
    """A daemon whose gateway the test starts and kills."""

    def __init__(self, **options):
        super().__init__(OPTIONS.build, **options)
        self.grpc_socket = self.folder / "grpc.sock"
        self.delivered = self.folder / "delivered.jsonl"
        self.gateway = None

    def configure(self, apps, mode="opt-out"):
        routes = "".join(f'[[route]]\napp = "{app}"\ndestination = "disk"\n' for app in apps)
        gateway = (f'[gateway]\nstart_by = "service_manager"\nuser = "{pwd.getpwuid(os.geteuid()).pw_name}"\n'
                   f'grpc_socket = "{self.grpc_socket}"\n')
        self.write_config(f'[[destination]]\nname = "disk"\nkind = "file"\nurl = "{self.delivered}"\n', routes, gateway)
        self.config.write_text(self.config.read_text().replace('mode = "opt-out"', f'mode = "{mode}"'))

    def start_gateway(self):
        with open(self.folder / "gateway.log", "ab") as log:
            self.gateway = self.spawn(self.bin / "telemetryd-gateway", "--config", self.config, "--listen",
                                      self.grpc_socket, stdout=log, stderr=log)
        rigs.wait_until(self.grpc_socket.exists, 30, "the gateway to listen")

    def kill_gateway(self):
        self.gateway.kill()
        self.gateway.wait()
        self.grpc_socket.unlink()

    def connections(self):
        """To the daemon's sockets, whether it accepted them or not."""
        sockets = (line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:])
        listening = "00010000"
        return sum(len(one) == 8 and one[7].startswith(f"{self.runtime}/") and one[3] != listening for one in sockets)

    def numbers(self, app, count):
        """The attribute `n` of all events of the app, from the file that they are delivered to."""
        def settled():
            ledger = self.status()["ledger"]
            return ledger["delivered"] == ledger["accepted"] and ledger["accepted"] >= count
        self.ctl("queue", "flush", check=False)
        rigs.wait_until(settled, 60, f"{count} events to be delivered; the ledger says {self.status()['ledger']}")
        events = [json.loads(line) for line in self.delivered.read_text().splitlines()]
        return [event["attributes"]["n"] for event in events if event.get("app") == app]


def commands():
    """Name to the words that start each example."""
    python = {"PYTHONPATH": stubs.FOLDER}
    return {"cpp": ([OPTIONS.cpp], {}),
            "node": (["node", OPTIONS.node_folder / "node/example.js", "--proto", ROOT / "proto"], {}),
            "python": (["/usr/bin/python3", "-B", ROOT / "client/grpc/python/example.py"], python)}


def each_way(test):
    """The test once for each language, unary and as a stream, on a machine of its own."""
    def run(self):
        for name in OPTIONS.languages:
            for stream in (False, True):
                way = "stream" if stream else "unary"
                with self.subTest(language=name, way=way), contextlib.ExitStack() as self.stack:
                    test(self, name, stream)
    return run


class ExamplesTest(unittest.TestCase):
    def machine(self, mode="opt-out"):
        machine = self.stack.enter_context(Machine())
        machine.configure(["app"], mode)
        machine.start_daemon()
        machine.start_gateway()
        return machine

    def example(self, machine, name, count, stream, **more):
        words, variables = commands()[name]
        variables = {**variables, **more}
        environment = {**machine.environment, **variables}
        words = [*words, "--socket", machine.grpc_socket, "--app", "app", "--count", count]
        process = subprocess.Popen([str(word) for word in words] + (["--stream"] if stream else []), env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   preexec_fn=rigs.die_with_parent)
        self.stack.callback(process.kill)
        return process

    def finish(self, process, machine):
        try:
            said, _ = process.communicate(timeout=OPTIONS.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fail(f"it did not end; it said: {process.communicate()[0]}\n{machine.log_tail()}\n"
                      f"{(machine.folder / 'gateway.log').read_text()[-2000:]}")
        return process.returncode, said

    def check_ledger(self, machine):
        checked = machine.ctl("ledger", "check", check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    @each_way
    def test_every_event_is_stored_once(self, name, stream):
        machine = self.machine()
        code, said = self.finish(self.example(machine, name, 505, stream), machine)
        self.assertEqual((code, said), (0, "acknowledged 505 events, 0 requests sent again\n"))
        self.assertEqual(sorted(machine.numbers("app", 505)), list(range(505)))
        self.check_ledger(machine)

    @each_way
    def test_what_a_killed_gateway_left_unanswered_is_sent_again_and_stored_once(self, name, stream):
        machine = self.machine()
        # The daemon stands still, so that requests are under way and none is answered.
        machine.daemon.send_signal(signal.SIGSTOP)
        process = self.example(machine, name, 505, stream)
        rigs.wait_until(machine.connections, 60, "the gateway to speak to the daemon")
        machine.kill_gateway()
        machine.daemon.send_signal(signal.SIGCONT)
        machine.start_gateway()
        code, said = self.finish(process, machine)
        self.assertEqual(code, 0, said)
        self.assertRegex(said, "^acknowledged 505 events, [1-9][0-9]* requests sent again$")
        self.assertEqual(sorted(machine.numbers("app", 505)), list(range(505)))
        self.check_ledger(machine)

    @each_way
    def test_it_stops_when_collection_is_off(self, name, stream):
        machine = self.machine("off")
        code, said = self.finish(self.example(machine, name, 20, stream), machine)
        self.assertEqual(code, 3, said)
        self.assertRegex(said, "^collection is off: .")
        self.assertEqual(machine.status()["ledger"]["accepted"], 0)

    def refuses_by_itself(self, machine, name, stream, rule, **variables):
        """It says no before it connects: telemetryd could not know."""
        code, said = self.finish(self.example(machine, name, 20, stream, **variables), machine)
        self.assertEqual((code, said), (3, f"collection is off: {rule}\n"))

    @each_way
    def test_a_word_in_the_environment_keeps_it_silent(self, name, stream):
        machine = self.machine()
        for variable, word, rule in (("DO_NOT_TRACK", "1", "DO_NOT_TRACK is set"), ("DNT", " Yes ", "DNT is set"),
                                     ("DO_NOT_TRACK", "maybe", "DO_NOT_TRACK is set"),
                                     ("APP_TELEMETRY", "off", "APP_TELEMETRY says so")):
            with self.subTest(variable=variable, word=word):
                self.refuses_by_itself(machine, name, stream, rule, **{variable: word})
        self.assertEqual(machine.status()["ledger"]["accepted"], 0)
        code, said = self.finish(self.example(machine, name, 20, stream, DO_NOT_TRACK="0", APP_TELEMETRY="on"), machine)
        self.assertEqual(code, 0, said)

    @each_way
    def test_a_consent_file_that_telemetryd_was_not_told_about_keeps_it_silent(self, name, stream):
        machine = self.machine()
        config = pathlib.Path(machine.environment["XDG_CONFIG_HOME"])
        for tool, text in (("app", 'version = 1\nstate = "disabled"\n'), ("telemetryd", "state = 'disabled' # no\n"),
                           ("app", 'state = "local"\n'), ("app", 'state = "enabled"\nstate = "enabled"\n'),
                           ("app", "enabled\n"), ("app", ""), ("app", 'version = 2\nstate = "enabled"\n'),
                           ("app", '{"status": "OptedOut"}'), ("app", '{"status": '),
                           ("app", 'state = "enabled"\n' + "#" * 5000)):
            with self.subTest(tool=tool, text=text[:40]):
                file = config / tool / "consent.toml"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                code, said = self.finish(self.example(machine, name, 20, stream), machine)
                self.assertEqual(code, 3, said)
                self.assertRegex(said, f"^collection is off: consent.toml of {tool} ")
                file.unlink()
        self.assertEqual(machine.status()["ledger"]["accepted"], 0)
        for text in ('version = 1 # one\nstate = "enabled"\ndecided_at = 2026-01-01T00:00:00Z\n', '{"status": "Granted"}',
                     'state = "unset"\n'):
            with self.subTest(text=text):
                (config / "app/consent.toml").write_text(text)
                code, said = self.finish(self.example(machine, name, 20, stream), machine)
                self.assertEqual(code, 0, said)

    @each_way
    def test_the_policy_beside_the_socket_keeps_it_silent(self, name, stream):
        machine = self.machine()
        (machine.folder / "policy").write_text("off\n")
        self.refuses_by_itself(machine, name, stream, "the machine's policy is off")
        self.assertEqual(machine.status()["ledger"]["accepted"], 0)
        (machine.folder / "policy").write_text("opt-out\n")
        code, said = self.finish(self.example(machine, name, 20, stream), machine)
        self.assertEqual(code, 0, said)

    def test_a_wrong_command_line_and_an_absent_socket_are_said_at_once(self):
        for name in OPTIONS.languages:
            with self.subTest(language=name), contextlib.ExitStack() as self.stack:
                machine = self.stack.enter_context(Machine())
                code, said = self.finish(self.example(machine, name, "abc", False), machine)
                self.assertEqual(code, 2, said)
                self.assertIn("usage", said)
                code, said = self.finish(self.example(machine, name, 1, False), machine)
                self.assertEqual(code, 1, said)
                self.assertIn(f"there is no {machine.grpc_socket}: start telemetryd", said)

    def test_health_and_reflection_answer_tools_that_know_nothing_of_us(self):
        if "node" not in OPTIONS.languages:
            self.skipTest("asked by packages of Node")
        with contextlib.ExitStack() as self.stack:
            machine = self.machine()
            asked = machine.run("node", OPTIONS.node_folder / "node/reflect.js", f"unix:{machine.grpc_socket}", check=False)
            self.assertEqual(asked.returncode, 0, asked.stderr)
            said = json.loads(asked.stdout)
            self.assertIn("telemetry.v1.IngestService", said["services"])
            self.assertEqual(said["methods"], ["Publish", "PublishStream"])
            self.assertIn("time_unix_nano", [re.sub("(?<!^)([A-Z])", r"_\1", name).lower() for name in said["fields"]])
            self.assertEqual(said["status"], {"": "SERVING", "telemetry.v1.IngestService": "SERVING"})

    def test_health_answers_python_s_grpc_too(self):
        if "python" not in OPTIONS.languages:
            self.skipTest("asked by Debian's python3-grpcio")
        with contextlib.ExitStack() as self.stack:
            machine = self.machine()
            with grpc.insecure_channel(f"unix:{machine.grpc_socket}") as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                self.assertEqual(check(b"", timeout=30), b"\x08\x01", "SERVING")
                with self.assertRaises(grpc.RpcError) as unknown:
                    check(b"\x0a\x05other", timeout=30)
                self.assertEqual(unknown.exception.code(), grpc.StatusCode.NOT_FOUND)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--cpp", required=True, help="the built C++ example")
    parser.add_argument("--patience", default=120, type=float, help="seconds for an example to end")
    parser.add_argument("--languages", default="cpp,node,python", type=lambda text: text.split(","))
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    OPTIONS.node_folder = pathlib.Path(OPTIONS.build).resolve() / "tests/grpc_node"
    if "node" in OPTIONS.languages:
        why = node_packages.install(OPTIONS.node_folder)
        if why:
            print(f"SKIPPED: the Node example was NOT tested: {why}")
            return rigs.SKIPPED
    return 0 if unittest.main(argv=[sys.argv[0], *rest], exit=False).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
