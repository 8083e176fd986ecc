#!/usr/bin/env python3
"""Is a connection whose other end has fallen silent noticed within its deadline, and replaced?

A real telemetryd and telemetryd-forward in one network namespace, a real telemetry-server in another.
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
sys.path[:0] = [str(HERE.parents[1] / "proof"), str(HERE.parents[1] / "support")]
import network  # noqa: E402
import rig as rigs  # noqa: E402

OPTIONS = argparse.Namespace()
APP, INDEX = "tool", 1
NEAR, FAR = "192.0.2.1", "192.0.2.2"  # the server's, the daemon's
BATCH = 10
REQUEST_TIMEOUT_S = 2
# Far less than TCP alone would take: it is told to give up after 60 s.
NOTICED_S = 30


def drop_to_port(port):
    return ("ip", "rule", "add", "pref", "1", "ipproto", "tcp", "dport", str(port), "blackhole")


class CuttingGate(rigs.Gate):
    """The first connection falls silent behind its first answer."""

    def __init__(self):
        super().__init__(NEAR)
        self.ports = []  # the clients', in the order of the first answers
        self.seen = threading.Lock()

    def _pump(self, source, sink, is_request):
        if is_request:
            super()._pump(source, sink, is_request)
            return
        with contextlib.suppress(OSError):
            answer = source.recv(1 << 16)
            port = sink.getpeername()[1]
            with self.seen:
                self.ports.append(port)
                first = len(self.ports) == 1
            sink.sendall(answer)
            if first:
                network.ip(*drop_to_port(port)[1:])
        super()._pump(source, sink, is_request)


class Machine(rigs.Rig):
    def __init__(self, build):
        super().__init__(build, batch_events_max=BATCH, request_timeout_s=REQUEST_TIMEOUT_S)
        # Its namespace is the one behind the cable.
        self.elsewhere = self.spawn("unshare", "-n", "sleep", "infinity").pid
        ours = pathlib.Path("/proc/self/ns/net").readlink()
        rigs.wait_until(lambda: pathlib.Path(f"/proc/{self.elsewhere}/ns/net").readlink() != ours, 20, "a namespace")
        network.lay_cable(NEAR, FAR, self.elsewhere)
        self.gate.close()
        self.gate = CuttingGate()

    def start(self, kind):
        destination = self.destination_at_server("upstream").replace("127.0.0.1", NEAR).replace('"native"', f'"{kind}"')
        self.write_config(destination + "allow_plain_http = true\n", f'[[route]]\napp = "{APP}"\ndestination = "upstream"\n')
        self.start_server()
        self.start_daemon(prefix=("nsenter", "-t", str(self.elsewhere), "-n"))

    def unacknowledged(self, port):
        """Bytes that the daemon's side has sent from this port and of which it has not heard."""
        for line in pathlib.Path(f"/proc/{self.daemon.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, _, queues, *_ = line.split()
            if int(local.partition(":")[2], 16) == port:
                return int(queues.partition(":")[0], 16)
        return 0


class HalfOpenTest(unittest.TestCase):
    def setUp(self):
        self.machine = Machine(OPTIONS.build)
        self.addCleanup(self.machine.__exit__, None, None, None)
        self.addCleanup(network.ip, "link", "del", "near")

    def wait(self, condition, timeout_s, what):
        try:
            return rigs.wait_until(condition, timeout_s, what)
        except rigs.Untested as late:
            self.fail(f"{late}: {self.machine.destination()}\n{self.machine.log_tail()}")

    def replaced(self, kind):
        machine = self.machine
        machine.start(kind)
        self.addCleanup(network.ip, "rule", "del", "pref", "1")
        # One commit and two batches: the second goes over the connection of the first.
        rigs.Producer(machine, APP, INDEX, 2 * BATCH, frame_bytes=64 << 10).finish(60)
        cut = self.wait(lambda: machine.gate.ports, 60, "a first answer")[0]
        self.wait(lambda: machine.unacknowledged(cut), 60, "a request that nobody acknowledges")
        begun = time.monotonic()
        self.wait(lambda: machine.destination()["attempts"] or len(machine.gate.ports) > 1, 60, "the silence to be noticed")
        self.assertLess(time.monotonic() - begun, NOTICED_S)
        self.wait(lambda: machine.status()["ledger"]["delivered"] == 2 * BATCH, 60, "delivery on a new connection")
        self.assertIn('cause="timed out while waiting for the answer', machine.log_tail())
        self.assertGreater(len(machine.gate.ports), 1)
        self.assertNotIn(cut, machine.gate.ports[1:])
        machine.check_ledger()
        machine.stop_daemon()
        machine.stop_server()
        rows, again = machine.arrivals()
        self.assertEqual(len({row[0] for row in rows}), 2 * BATCH)
        self.assertEqual(len(rows), 2 * BATCH, "each event is stored once")
        self.assertLessEqual(again, BATCH)

    def test_a_silent_connection_is_replaced_with_kind_native(self):
        self.replaced("native")

    def test_a_silent_connection_is_replaced_with_kind_ingest(self):
        self.replaced("ingest")


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
