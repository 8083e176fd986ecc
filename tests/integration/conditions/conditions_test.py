#!/usr/bin/env python3
"""Does what leaves the machine follow the network's cost, the battery and the routes?

A real telemetryd, telemetryd-forward and telemetry-server in a network namespace of their own, with a
D-Bus of their own on which NetworkManager, ModemManager and UPower are played by programs that own
their names. Skipped, aloud, where there may be no namespace or is no dbus-daemon.
"""

import argparse
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "proof"), str(HERE.parents[1] / "support")]
import network  # noqa: E402
import rig as rigs  # noqa: E402
from network import ip, make_link  # noqa: E402

OPTIONS = argparse.Namespace()
APP = "tool"
ADDRESS = "192.0.2.1"  # of the upstream, on an interface of the namespace

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_type="method_return"/>
<allow receive_type="error"/></policy></busconfig>
"""


class Service:
    """One of the services; it is there from the first line of its output on, with these properties."""

    def __init__(self, rig, kind, **properties):
        self.process = rig.spawn_with_input("/usr/bin/python3", "-B", HERE / "bus_services.py", kind,
                                            json.dumps(properties))
        self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise rigs.Untested("a service on the bus ended")
        return line

    def put(self, **properties):
        self.process.stdin.write(json.dumps(properties) + "\n")
        self.process.stdin.flush()
        self.line()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Machine(rigs.Rig):
    def __init__(self, build):
        super().__init__(build)
        self.gate.close()
        self.gate = rigs.Gate(ADDRESS)
        self.bus = self.folder / "bus"
        self.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={self.bus}"

    def start_bus(self):
        config = self.folder / "bus.conf"
        config.write_text(BUS_CONFIG.format(socket=self.bus))
        self.dbus = self.spawn("dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}")
        rigs.wait_until(self.bus.exists, 20, "the bus")

    def spawn_with_input(self, *command):
        process = subprocess.Popen([str(word) for word in command], env=self.environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, preexec_fn=rigs.die_with_parent)
        self.started.append(process)
        return process

    def start(self, more="", **forward):
        upstream = self.destination_at_server("upstream").replace("127.0.0.1", ADDRESS)
        self.write_config(upstream + "allow_plain_http = true\n" + more, f'[[route]]\napp = "{APP}"\ndestination = "upstream"\n')
        text = self.config.read_text()
        for key, value in forward.items():
            text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key} ="))
            text = text.replace("[forward]\n", f"[forward]\n{key} = {value}\n")
        self.config.write_text(text)
        self.start_server()
        self.start_daemon()

    def send(self, name, urgent=False):
        self.ctl("event", "send", "--app", APP, "--name", name, *(["--urgent"] if urgent else []))

    def delivered(self):
        return self.status()["ledger"]["delivered"]


class ConditionsTest(unittest.TestCase):
    def setUp(self):
        self.machine = Machine(OPTIONS.build)
        self.addCleanup(self.machine.__exit__, None, None, None)

    def service(self, kind, **properties):
        service = Service(self.machine, kind, **properties)
        self.addCleanup(service.stop)
        return service

    def wait(self, condition, what):
        try:
            return rigs.wait_until(condition, 60, what)
        except rigs.Untested as late:
            self.fail(f"{late}: {self.machine.destination()}\n{self.machine.log_tail()}")

    def wait_for_rule(self, rule):
        self.wait(lambda: self.machine.destination()["waiting_for"] == rule, f"the rule {rule}")

    def wait_delivered(self, count):
        self.wait(lambda: self.machine.delivered() == count, f"{count} delivered events")

    def kept_back(self, rule, delivered):
        """An event that is not urgent waits for the rule's end."""
        self.machine.send("late")
        self.wait_for_rule(rule)
        self.assertEqual(self.machine.delivered(), delivered)

    def test_the_policy_follows_the_services(self):
        self.machine.start_bus()
        network, modem, power = (self.service(kind) for kind in ("network", "modem", "power"))
        self.machine.start()

        self.machine.send("plain")
        self.wait_delivered(1)

        network.put(Metered=1)
        self.kept_back("metered", 1)
        self.machine.send("now", urgent=True)
        self.wait_delivered(2)
        self.wait_for_rule("metered")
        network.put(Metered=2)
        self.wait_delivered(3)

        modem.put(RegistrationState=5)
        self.kept_back("roaming", 3)
        self.machine.send("now", urgent=True)
        flush = self.machine.ctl("queue", "flush", check=False)
        self.assertNotEqual(flush.returncode, 0)
        self.assertIn("roaming", flush.stdout + flush.stderr)
        self.assertEqual(self.machine.delivered(), 3)
        network.put(PrimaryConnectionType="802-11-wireless")
        self.wait_delivered(5)

        power.put(Percentage=19.0)
        power.put(OnBattery=True)
        self.kept_back("battery", 5)
        self.machine.ctl("queue", "flush")
        self.wait_delivered(6)
        self.kept_back("battery", 6)
        power.put(OnBattery=False)
        self.wait_delivered(7)
        self.machine.check_ledger()

    def test_a_service_that_restarts_lets_nothing_through_and_one_that_is_gone_forbids_nothing(self):
        self.machine.start_bus()
        network = self.service("network", Metered=1)
        self.machine.start()
        self.kept_back("metered", 0)
        network.stop()
        network = self.service("network", Metered=1)
        self.assertEqual(self.machine.destination()["waiting_for"], "metered")
        self.assertEqual(self.machine.delivered(), 0)
        network.stop()
        self.wait_delivered(1)

    def test_a_bus_that_ends_forbids_nothing(self):
        self.machine.start_bus()
        self.service("network", Metered=1)
        self.machine.start()
        self.kept_back("metered", 0)
        self.machine.dbus.kill()
        self.wait_delivered(1)

    def test_without_a_bus_everything_leaves(self):
        self.machine.start()
        self.machine.send("plain")
        self.wait_delivered(1)

    def test_a_bus_that_says_nothing_holds_nobody_up(self):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(self.machine.bus))
            silent.listen()
            self.machine.start()
            self.machine.send("plain")
            self.wait_delivered(1)

    # The next try would be within an hour; it is within seconds of the route.
    def test_a_route_that_returns_is_followed_soon(self):
        make_link("other", "198.51.100.1/24")
        self.addCleanup(ip, "link", "del", "other0")
        self.machine.start(retry_delay_min_ms=3600000, retry_delay_max_s=3600)
        ip("address", "del", f"{ADDRESS}/24", "dev", "up0")
        try:
            self.machine.send("plain")
            self.wait(lambda: self.machine.destination()["state"] == "backoff", "a failed try")
            self.assertEqual(self.machine.destination()["waiting_for"], None)
        finally:
            ip("address", "add", f"{ADDRESS}/24", "dev", "up0")
        self.wait_delivered(1)

    def test_without_any_route_nothing_is_tried_until_one_comes(self):
        self.machine.start(retry_delay_min_ms=3600000, retry_delay_max_s=3600)
        ip("address", "del", f"{ADDRESS}/24", "dev", "up0")
        try:
            self.kept_back("offline", 0)
            self.assertEqual(self.machine.destination()["attempts"], 0)
        finally:
            ip("address", "add", f"{ADDRESS}/24", "dev", "up0")
        self.wait_delivered(1)

    def test_a_proxy_on_this_machine_is_tried_without_any_route(self):
        ip("address", "del", f"{ADDRESS}/24", "dev", "up0")
        try:
            self.machine.start(more='proxy = "http://127.0.0.1:9"\n')
            self.machine.send("plain")
            self.wait(lambda: self.machine.destination()["cause"] == "proxy", "a try through the proxy")
            self.assertEqual(self.machine.destination()["waiting_for"], None)
        finally:
            ip("address", "add", f"{ADDRESS}/24", "dev", "up0")


def why_not():
    if not shutil.which("dbus-daemon"):
        return "dbus-daemon is not installed"
    imports = subprocess.run(["/usr/bin/python3", "-c", "import dbus, gi"], capture_output=True, text=True, check=False)
    if imports.returncode != 0:
        return "python3-dbus or python3-gi is not installed"
    return network.why_not()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    reason = "" if network.is_inside() else why_not()
    if reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return rigs.SKIPPED
    network.go_inside()
    make_link("up", f"{ADDRESS}/24")
    return unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    sys.exit(main())
