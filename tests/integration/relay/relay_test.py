#!/usr/bin/env python3
"""Do events of one machine arrive at another, each once, with a ledger at both ends that balances?

Two real daemons. On the first an app hands in events and telemetryd-forward publishes them over TLS; on
the second telemetryd-gateway takes them and telemetryd writes them to a file.
"""

import argparse
import hashlib
import json
import os
import pathlib
import pwd
import signal
import socket
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "proof")]
import certificates  # noqa: E402
import rig as rigs  # noqa: E402

OPTIONS = argparse.Namespace()
APP = "tool"
EVENTS = 2000


class Sender(rigs.Rig):
    def configure(self, url, ca_file, token_file):
        self.write_config(f'[[destination]]\nname = "relay"\nkind = "grpc"\nurl = "{url}"\nca_file = "{ca_file}"\n'
                          f'token_file = "{token_file}"\n', f'[[route]]\napp = "{APP}"\ndestination = "relay"\n')

    def machine_id(self):
        uid = (self.folder / "machine-id").read_text().strip()
        return hashlib.sha256(f"{APP}.telemetry.v1{uid}".encode()).hexdigest()


class Relay(rigs.Rig):
    """A daemon with a gateway on TCP. The listening socket is the test's, so that a gateway that was
    killed is followed by another at the same place, as with a service manager."""

    def __init__(self, build):
        super().__init__(build)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"
        self.file = self.folder / "relayed.jsonl"
        self.gateway = None

    def configure(self, token_file):
        certificates.make(self.folder)
        user = pwd.getpwuid(os.geteuid()).pw_name
        gateway = (f'[gateway]\nstart_by = "service_manager"\nuser = "{user}"\n'
                   f'tls_cert_file = "{self.folder}/server.pem"\ntls_key_file = "{self.folder}/server.key"\n'
                   f'token_file = "{token_file}"\ngrpc_listen = "{self.url.removeprefix("https://")}"\n')
        self.write_config(f'[[destination]]\nname = "disk"\nkind = "file"\nurl = "{self.file}"\n',
                          f'[[route]]\napp = "{APP}"\ndestination = "disk"\n', gateway)

    def start_gateway(self):
        fd = self.listening.fileno()
        with open(self.folder / "gateway.log", "ab") as log:
            # Not sh: Debian's knows no descriptor above 9.
            self.gateway = self.spawn(
                "bash", "-c", f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" --config "$1" 3<&{fd}',
                self.bin / "telemetryd-gateway", self.config, stdout=log, stderr=log, pass_fds=[fd])

    def log_of_gateway(self):
        return (self.folder / "gateway.log").read_text(errors="replace")[-2000:]

    def __exit__(self, *problem):
        self.listening.close()
        super().__exit__(*problem)


def token(folder, name, text):
    file = folder / name
    file.write_text(text + "\n")
    file.chmod(0o600)
    return file


class RelayTest(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(OPTIONS.build).__enter__()
        self.addCleanup(self.relay.__exit__, None, None, None)
        self.sender = Sender(OPTIONS.build).__enter__()
        self.addCleanup(self.sender.__exit__, None, None, None)
        self.token = token(self.relay.folder, "token", "relay-token")
        self.relay.configure(self.token)
        self.relay.start_daemon()
        self.relay.start_gateway()

    def start_sender(self, ca="ca.pem", token_file=None):
        self.sender.configure(self.relay.url, self.relay.folder / ca, token_file or self.token)
        self.sender.start_daemon()

    def check_ledgers(self):
        for machine in (self.sender, self.relay):
            checked = machine.ctl("ledger", "check", check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def wait_for_arrival(self):
        def arrived():
            self.sender.ctl("queue", "flush", check=False)
            self.relay.ctl("queue", "flush", check=False)
            return (self.sender.status()["ledger"]["delivered"] == EVENTS
                    and self.relay.status()["ledger"]["delivered"] >= EVENTS)
        try:
            rigs.wait_until(arrived, 120, "the events to arrive")
        except rigs.Untested:
            self.fail(f"sender: {self.sender.status()['ledger']} {self.sender.destination('relay')}\n"
                      f"relay: {self.relay.status()['ledger']}\n{self.relay.log_of_gateway()}\n{self.relay.log_tail()}")

    def check_arrival(self):
        events = [json.loads(line) for line in self.relay.file.read_text().splitlines()]
        self.assertEqual(sorted(event["attributes"]["n"] for event in events), list(range(EVENTS)))
        self.assertEqual(self.relay.status()["ledger"]["accepted"], EVENTS, "each row is stored once")
        self.assertEqual({event["machine_id"] for event in events}, {self.sender.machine_id()})
        self.check_ledgers()

    def test_events_arrive_with_the_machine_that_recorded_them(self):
        self.start_sender()
        rigs.Producer(self.sender, APP, 1, EVENTS).finish(60)
        self.wait_for_arrival()
        self.check_arrival()

    def test_killed_forwarders_and_gateways_lose_nothing_and_double_nothing(self):
        self.start_sender()
        # A gateway that stands still keeps the forwarder waiting for an answer, until both are killed.
        self.relay.gateway.send_signal(signal.SIGSTOP)
        producer = rigs.Producer(self.sender, APP, 1, EVENTS, frame_bytes=512)

        def forwarder():
            self.sender.ctl("queue", "flush", check=False)
            return self.sender.forwarder_pid()
        self.assertTrue(self.kill(rigs.wait_until(forwarder, 60, "a forwarder at work")))
        self.restart_gateway()
        producer.finish(60)
        self.restart_gateway()
        self.wait_for_arrival()
        self.check_arrival()

    def restart_gateway(self):
        self.relay.gateway.kill()
        self.relay.gateway.wait()
        self.relay.start_gateway()

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return 1

    def wait_for_hold(self):
        rigs.Producer(self.sender, APP, 1, 10).finish(60)
        self.sender.ctl("queue", "flush", check=False)

        def held():
            relay = self.sender.destination("relay")
            return relay if relay.get("state") == "held" else None
        try:
            return rigs.wait_until(held, 30, "the destination to be held")
        except rigs.Untested:
            self.fail(f"{self.sender.destination('relay')}\n{self.sender.log_tail()}")

    def test_a_stranger_s_certificate_holds_the_destination(self):
        self.start_sender(ca="stranger.pem")
        self.assertRegex(json.dumps(self.wait_for_hold()), "TLS: .*certificate.*ca_file")
        self.assertEqual(self.relay.status()["ledger"]["accepted"], 0)

    def test_a_wrong_token_holds_the_destination(self):
        self.start_sender(token_file=token(self.relay.folder, "other", "another-token"))
        self.assertRegex(json.dumps(self.wait_for_hold()), "UNAUTHENTICATED: .*token_file")
        self.assertEqual(self.relay.status()["ledger"]["accepted"], 0)

    def test_the_connection_can_be_tested_without_an_event(self):
        self.start_sender()
        tested = self.sender.ctl("destination", "test", "relay", check=False)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr + self.relay.log_of_gateway())
        self.assertIn("the relay is serving", tested.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    unittest.main(argv=[sys.argv[0], *rest])
