#!/usr/bin/env python3
"""Is a connection whose other end has fallen silent noticed within its deadline, and replaced?

A real telemetryd and telemetryd-forward in one network namespace, a real telemetry-server or relay in another.
In the middle of a delivery everything that comes back on the connection is dropped: no acknowledgement,
no reset, no end. New connections work. Skipped, aloud, where there may be no namespace.
"""

import argparse
import contextlib
import pathlib
import sys
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "proof"), str(HERE.parents[1] / "support"), str(HERE.parent / "relay")]
import network  # noqa: E402
import relay_test  # noqa: E402
import rig as rigs  # noqa: E402

OPTIONS = argparse.Namespace()
APP, INDEX = "tool", 1
NEAR, FAR = "192.0.2.1", "192.0.2.2"  # the server's, the daemon's
BATCH = 10
ROWS = 60  # of a delivery to a relay, a call each
BEHIND_HANDSHAKE = 4000  # bytes from the relay: some of the calls are answered by then, and not all
REQUEST_TIMEOUT_S = 2
# Far less than TCP alone would take: it is told to give up after 60 s.
NOTICED_S = 30


def drop_to_port(port):
    return ("ip", "rule", "add", "pref", "1", "ipproto", "tcp", "dport", str(port), "blackhole")


class CuttingGate(rigs.Gate):
    """The first connection falls silent behind so many bytes of answers."""

    def __init__(self, after_bytes):
        super().__init__(NEAR)
        self.after_bytes = after_bytes
        self.ports = []  # the clients', in the order they came
        self.silent = 0  # the one of them to which nothing comes any more
        self.seen = threading.Lock()

    def _pump(self, source, sink, is_request):
        if is_request:
            super()._pump(source, sink, is_request)
            return
        with contextlib.suppress(OSError):
            port = sink.getpeername()[1]
            with self.seen:
                self.ports.append(port)
                left = self.after_bytes if len(self.ports) == 1 else 0
            while left > 0 and (answer := source.recv(1 << 16)):
                sink.sendall(answer)
                left -= len(answer)
                if left <= 0:
                    network.ip(*drop_to_port(port)[1:])
                    self.silent = port
        super()._pump(source, sink, is_request)


class Machine(rigs.Rig):
    def __init__(self, build, silent_after_bytes, batch_events_max):
        super().__init__(build, batch_events_max=batch_events_max, request_timeout_s=REQUEST_TIMEOUT_S)
        # Its namespace is the one behind the cable.
        self.elsewhere = self.spawn("unshare", "-n", "sleep", "infinity").pid
        ours = pathlib.Path("/proc/self/ns/net").readlink()
        rigs.wait_until(lambda: pathlib.Path(f"/proc/{self.elsewhere}/ns/net").readlink() != ours, 20, "a namespace")
        network.lay_cable(NEAR, FAR, self.elsewhere)
        self.gate.close()
        self.gate = CuttingGate(silent_after_bytes)

    def start(self, destination):
        self.write_config(destination, f'[[route]]\napp = "{APP}"\ndestination = "upstream"\n')
        self.start_daemon(prefix=("nsenter", "-t", str(self.elsewhere), "-n"))

    def unacknowledged(self, port):
        """Bytes that the daemon's side has sent from this port and of which it has not heard."""
        for line in pathlib.Path(f"/proc/{self.daemon.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, _, queues, *_ = line.split()
            if int(local.partition(":")[2], 16) == port:
                return int(queues.partition(":")[0], 16)
        return 0


class HalfOpenTest(unittest.TestCase):
    def entered(self, rig):
        self.addCleanup(rig.__exit__, None, None, None)
        return rig

    def make_machine(self, **how):
        self.machine = self.entered(Machine(OPTIONS.build, **how))
        self.addCleanup(network.ip, "link", "del", "near")

    def wait(self, condition, what):
        try:
            return rigs.wait_until(condition, 60, what)
        except rigs.Untested as late:
            self.fail(f"{late}: {self.machine.destination()}\n{self.machine.log_tail()}")

    def check_replaced(self, words, events, **frames):
        """One delivery, in whose middle the connection falls silent, to its end. The log has these words of it."""
        machine, gate = self.machine, self.machine.gate
        rigs.Producer(machine, APP, INDEX, events, **frames).finish(60)
        # Now that there is something for a whole delivery.
        gate.set_mode("open")
        self.wait(lambda: gate.silent, "an answer")
        self.addCleanup(network.ip, "rule", "del", "pref", "1")
        self.wait(lambda: machine.unacknowledged(gate.silent), "a request that nobody acknowledges")
        begun = time.monotonic()
        self.wait(lambda: words in machine.log_tail(), "the silence to be noticed")
        self.assertLess(time.monotonic() - begun, NOTICED_S)
        self.wait(lambda: machine.status()["ledger"]["delivered"] == events, "delivery on a new connection")
        self.assertGreater(len(gate.ports), 1)
        self.assertNotIn(gate.silent, gate.ports[1:])
        machine.check_ledger()

    def check_at_server(self, kind):
        self.make_machine(silent_after_bytes=1, batch_events_max=BATCH)
        machine = self.machine
        machine.start_server(through_gate=False)
        destination = machine.destination_at_server("upstream").replace("127.0.0.1", NEAR).replace('"native"', f'"{kind}"')
        machine.start(destination + "allow_plain_http = true\n")
        # One commit and two batches: the second goes over the connection of the first.
        self.check_replaced("timed out while waiting for the answer", 2 * BATCH, frame_bytes=64 << 10)
        machine.stop_daemon()
        machine.stop_server()
        rows, again = machine.arrivals()
        self.assertEqual(len({row[0] for row in rows}), 2 * BATCH)
        self.assertEqual(len(rows), 2 * BATCH, "each event is stored once")
        self.assertLessEqual(again, BATCH)

    def test_a_silent_connection_is_replaced_with_kind_native(self):
        self.check_at_server("native")

    def test_a_silent_connection_is_replaced_with_kind_ingest(self):
        self.check_at_server("ingest")

    def test_a_silent_connection_is_replaced_with_kind_grpc(self):
        relay = self.entered(relay_test.Relay(OPTIONS.build))
        token = relay_test.token(relay.folder, "token", "relay-token")
        relay.configure(token)
        relay.start_daemon()
        relay.start_gateway()
        self.make_machine(silent_after_bytes=BEHIND_HANDSHAKE, batch_events_max=500)
        machine = self.machine
        machine.gate.target = relay.listening.getsockname()
        machine.start(f'[[destination]]\nname = "upstream"\nkind = "grpc"\nurl = "https://{NEAR}:{machine.gate.port}"\n'
                      f'ca_file = "{relay.folder}/ca.pem"\ntoken_file = "{token}"\n')
        self.check_replaced("DEADLINE_EXCEEDED", ROWS, flush_each=True)
        self.assertEqual(relay.status()["ledger"]["accepted"], ROWS, "each event is stored once")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    reason = "" if network.is_inside() else network.why_not(drop_to_port(9))
    if reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return rigs.SKIPPED
    network.go_inside()
    return unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    sys.exit(main())
