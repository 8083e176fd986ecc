#!/usr/bin/env python3
"""Does an installed telemetryd behave under a real service manager?

Installs the built programs into a booted container and checks units, users, sandbox, sockets,
forwarding, watchdog, restart and stop. Needs root and systemd-nspawn; says SKIPPED and ends with
77 where it cannot run.

usage: service_test.py BUILD_FOLDER [--idle-seconds N]
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proof"))
sys.dont_write_bytecode = True

import container  # noqa: E402
import rig as rigs  # noqa: E402

SKIPPED = 77
DEADLINE_S = 150  # and as long as it is idle
EXPOSURE_MAX = 15  # tenths, as systemd-analyze takes it
SERVICES = ("telemetryd.service", "telemetryd-forward.service", "telemetryd-gateway.service")
SOCKETS = ("telemetryd.socket", "telemetryd-admin.socket", "telemetryd-forward.socket", "telemetryd-gateway.socket")
OUT = "/var/lib/telemetryd-forward/out.jsonl"
STALLED_PORT = 4318
WELCOME = b"@"  # the type of that frame

CONFIG = f"""
[policy]
mode = "opt-out"
[store]
commit_delay_max_ms = 10
[gateway]
idle_exit_s = 2
[forward]
sync_interval_s = 3600
retry_delay_min_ms = 200
retry_delay_max_s = 1
request_timeout_s = 600
[[destination]]
name = "disk"
kind = "file"
url = "{OUT}"
[[destination]]
name = "stalled"
kind = "native"
url = "http://127.0.0.1:{STALLED_PORT}"
org = "acme"
app = "stuck"
token_file = "/etc/telemetryd/credentials/token"
secret_file = "/etc/telemetryd/credentials/secret"
[[route]]
app = "tool"
destination = "disk"
[[route]]
app = "stuck"
destination = "stalled"
"""

# Says as anybody on ingest.sock that its events are another user's, and prints the answer's type and
# code.
FORGER = r"""
import os, socket, struct
hello = b"TLMF\x01\x00\x00\x00\x0a\x10" + os.urandom(16) + b"\x12\x06\x0a\x04tool\x20\x01\x40\x05"
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
connection.connect("/run/telemetryd/ingest.sock")
connection.sendall(struct.pack("<IBBH", len(hello), 1, 0, 0) + hello)
answer = b""
while piece := connection.recv(4096):
    answer += piece
print(answer[4], struct.unpack_from("<H", answer, 8)[0])
"""

# Accepts, reads, and never answers: a lease stays out for as long as this lives.
STALL = f"""
import socket
listening = socket.create_server(("127.0.0.1", {STALLED_PORT}))
open_ones = []
while True:
    open_ones.append(listening.accept())
"""


class ServiceTest:
    def __init__(self, machine, idle_s):
        self.machine = machine
        self.idle_s = idle_s
        self.failures = 0

    def check(self, claim, holds, seen=""):
        if not holds:
            self.failures += 1
        print(f"{'ok' if holds else 'FAILED'}: {claim}" + (f" ({seen})" if seen and not holds else ""), flush=True)

    def eventually(self, claim, condition, timeout_s=20):
        """`condition` returns (holds, what was seen)."""
        deadline = time.monotonic() + timeout_s
        while True:
            holds, seen = condition()
            if holds or time.monotonic() > deadline:
                self.check(claim, holds, seen)
                return holds
            time.sleep(0.1)

    def show(self, unit, key):
        return self.machine.show(unit, key)

    def shows(self, unit, key, wanted):
        def condition():
            seen = self.show(unit, key)
            return seen == wanted, f"{key}={seen}"
        return condition

    def ctl(self, *words, user=None, check=True):
        return self.machine.run("telemetryctl", *words, user=user, check=check)

    def status(self):
        return json.loads(self.ctl("--json", "status").stdout)

    def main_pid(self):
        """As the container counts; 0 when the daemon does not run."""
        return int(self.show("telemetryd.service", "MainPID") or 0)

    def outside_pid(self, program):
        """The process as this test's own pid namespace counts."""
        found = subprocess.run(["pgrep", "-f", f"^[^ ]*/{program}( |$)", "--ns", str(self.machine.leader),
                                "--nslist", "pid"], text=True, capture_output=True).stdout.split()
        return int(found[0]) if found else 0

    def process_status(self, pid, key):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return line.split()[1]
        return ""

    def uid_of(self, name):
        return self.machine.run("id", "-u", name).stdout.strip()

    # In the order of a machine's life: installed, started, used, idle, busy, killed, hung, stopped.

    def install(self):
        run = self.machine.run
        run("ldconfig")
        run("systemd-sysusers")
        # It speaks of other packages' folders too, and may complain about those.
        run("systemd-tmpfiles", "--create", "--prefix=/run/telemetryd", "--prefix=/etc/telemetryd")
        # A build for /usr/local installs its configuration there too, where nobody reads it.
        local = self.machine.path("/usr/local/etc/telemetryd")
        if local.is_dir():
            shutil.copytree(local, self.machine.path("/etc/telemetryd"), dirs_exist_ok=True)
        self.machine.path("/etc/telemetryd/telemetryd.toml").write_text(CONFIG)
        group = int(run("id", "-g", "telemetryd-forward").stdout)
        for name in ("token", "secret"):
            secret = self.machine.path(f"/etc/telemetryd/credentials/{name}")
            secret.write_text("tk_" + "0" * 40 + "\n")
            os.chown(secret, 0, group)
            secret.chmod(0o640)
        helper = pathlib.Path(__file__).with_name("grpc_send.py")
        shutil.copy(helper, self.machine.path("/usr/local/lib/grpc_send.py"))
        # The watchdog's real interval is longer than this test.
        drop_in = self.machine.path("/etc/systemd/system/telemetryd.service.d/test.conf")
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Service]\nWatchdogSec=3s\n")
        run("systemctl", "daemon-reload")

    def units_are_sound(self):
        for unit in SERVICES + SOCKETS:
            result = self.machine.run("systemd-analyze", "verify", "--man=no", unit, check=False)
            self.check(f"{unit} has nothing for systemd-analyze verify to say",
                       result.returncode == 0 and not result.stderr, result.stderr)
        for unit in SERVICES:
            file = self.show(unit, "FragmentPath")
            result = self.machine.run("systemd-analyze", "security", "--offline=true", "--no-pager",
                                      f"--threshold={EXPOSURE_MAX}", file, check=False)
            last = (result.stdout.strip().splitlines() or ["no output"])[-1]
            self.check(f"{unit} is exposed at most {EXPOSURE_MAX / 10}", result.returncode == 0, last)

    def starts(self):
        self.machine.run("systemctl", "start", *SOCKETS)
        for name, mode, owner in (("ingest", 0o666, None), ("admin", 0o666, None), ("grpc", 0o666, None),
                                  ("forward", 0o600, "telemetryd")):
            found = self.machine.path(f"/run/telemetryd/{name}.sock").stat()
            self.check(f"{name}.sock is a socket of mode {mode:o}",
                       stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == mode, oct(found.st_mode))
            if owner:
                self.check(f"{name}.sock belongs to {owner}", str(found.st_uid) == self.uid_of(owner), found.st_uid)
        result = self.machine.run("systemctl", "start", "telemetryd.service", check=False)
        self.check("telemetryd.service starts and says that it is ready", result.returncode == 0,
                   result.stderr + self.machine.journal("telemetryd.service"))
        self.check("it is active", self.show("telemetryd.service", "ActiveState") == "active")
        self.check("it has said what it is doing by NotifyAccess=main", self.show("telemetryd.service", "Type") == "notify")

    def sandbox_holds(self):
        pid = self.outside_pid("telemetryd")
        self.check("the daemon runs as telemetryd", self.process_status(pid, "Uid") == self.uid_of("telemetryd"))
        self.check("it has no capability", int(self.process_status(pid, "CapBnd"), 16) == 0)
        self.check("it runs under seccomp without new privileges",
                   self.process_status(pid, "Seccomp") == "2" and self.process_status(pid, "NoNewPrivs") == "1")
        its_network = os.readlink(f"/proc/{pid}/ns/net")
        self.check("its network is not the machine's", its_network != os.readlink(f"/proc/{self.machine.leader}/ns/net"))
        state = self.machine.path("/var/lib/telemetryd").stat()
        self.check("the state folder is the daemon's alone",
                   stat.S_IMODE(state.st_mode) == 0o700 and str(state.st_uid) == self.uid_of("telemetryd"))
        secrets = pathlib.Path(f"/proc/{pid}/root/etc/telemetryd/credentials")
        self.check("it cannot see the destinations' secrets", not (secrets / "secret").exists())

    def takes_events_and_answers(self):
        sent = self.ctl("event", "send", "--app", "tool", "--name", "first", user=65534, check=False)
        self.check("an ordinary user can send an event", sent.returncode == 0, sent.stderr)
        seen = self.ctl("--json", "status", user=65534, check=False)
        self.check("and read the status", seen.returncode == 0, seen.stderr)
        accepted = self.status()["ledger"]["accepted"]
        self.check("the event is in the ledger", accepted == 1, accepted)
        listed = [json.loads(line) for line in self.ctl("--json", "event", "list").stdout.splitlines()]
        self.check("it is known under its sender's uid, not the sandbox's",
                   [event["uid"] for event in listed] == [65534], listed)

    def forwards(self):
        flushed = self.ctl("queue", "flush", check=False)
        self.check("a flush delivers", flushed.returncode == 0,
                   flushed.stderr + self.machine.journal("telemetryd.service", "telemetryd-forward.service"))
        out = self.machine.path(OUT)
        lines = out.read_text().splitlines() if out.exists() else []
        self.check("the event is in the destination's file", len(lines) == 1 and json.loads(lines[0])["name"] == "first", lines)
        self.check("the file belongs to the forwarder's user",
                   out.exists() and str(out.stat().st_uid) == self.uid_of("telemetryd-forward"))
        self.eventually("the forwarder ends when nothing is due",
                        self.shows("telemetryd-forward.service", "ActiveState", "inactive"))
        self.check("it ran as a unit of its own and ended well",
                   self.show("telemetryd-forward.service", "ExecMainStatus") == "0"
                   and self.show("telemetryd-forward.service", "ExecMainStartTimestampMonotonic") not in ("", "0"))

    def publish(self, name, user):
        return self.machine.run("/usr/bin/python3", "/usr/local/lib/grpc_send.py", "/run/telemetryd/grpc.sock", "tool",
                                name, user=user, check=False, timeout_s=40)

    def listed(self):
        return [json.loads(line) for line in self.ctl("--json", "event", "list").stdout.splitlines()]

    def takes_grpc(self):
        gateway = self.machine.path("/usr/bin/telemetryd-gateway")
        local = self.machine.path("/usr/local/bin/telemetryd-gateway")
        if self.machine.run("/usr/bin/python3", "-c", "import grpc", check=False).returncode or not (
                gateway.exists() or local.exists()):
            print("SKIPPED: gRPC, for python3-grpcio or telemetryd-gateway is not there", flush=True)
            return
        sent = self.publish("by-grpc", user=65534)
        self.check("an ordinary user publishes over gRPC", sent.returncode == 0,
                   sent.stdout + sent.stderr + self.machine.journal("telemetryd-gateway.service", "telemetryd.service"))
        owners = [event["uid"] for event in self.listed() if event["name"] == "by-grpc"]
        self.check("the event carries that user's uid", owners == [65534], owners)
        pid = self.outside_pid("telemetryd-gateway")
        if pid:
            self.check("the gateway runs as telemetryd-gateway",
                       self.process_status(pid, "Uid") == self.uid_of("telemetryd-gateway"))
            self.check("it has no network", os.readlink(f"/proc/{pid}/ns/net")
                       != os.readlink(f"/proc/{self.machine.leader}/ns/net"))
            self.check("it cannot see the store",
                       not pathlib.Path(f"/proc/{pid}/root/var/lib/telemetryd/events.db").exists())
        for user in (0, 65534):
            forged = self.machine.run("/usr/bin/python3", "-c", FORGER, user=user, check=False)
            self.check(f"uid {user} cannot speak for another on ingest.sock", forged.stdout.strip() == "68 8",
                       forged.stdout + forged.stderr)
        ingest = self.status()["ingest"]
        self.check("both are counted", ingest["peer_uids_refused"] == 2, ingest)
        self.eventually("the gateway leaves when idle", self.shows("telemetryd-gateway.service", "ActiveState", "inactive"))
        self.check("as it should", self.show("telemetryd-gateway.service", "Result") == "success")
        self.daemon_sleeps()

    def switches(self):
        pid = self.outside_pid("telemetryd")
        return [line for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line]

    def written(self):
        io = pathlib.Path(f"/proc/{self.outside_pid('telemetryd')}/io").read_text()
        return [line for line in io.splitlines() if line.startswith(("wchar", "write_bytes"))]

    def greeted(self):
        """A client that has said HELLO, had its WELCOME, and says nothing more."""
        client, answer = rigs.greeted(f"/proc/{self.machine.leader}/root/run/telemetryd/ingest.sock", 20)
        self.check("a quiet client is welcome", answer[4:5] == WELCOME, answer)
        return client

    def daemon_sleeps(self):
        """Not one wake-up and not a byte; the watchdog may have to see its last interval pass first."""
        quiet = [self.greeted() for _ in range(10)]
        self.status()
        self.eventually("the watchdog is disarmed again", self.watchdog_is(False))
        before = self.switches(), self.written()
        time.sleep(self.idle_s)
        after = self.switches(), self.written()
        self.check(f"after an admin call, with ten clients and without the gateway, the daemon sleeps for {self.idle_s} seconds",
                   before == after, f"{before} -> {after}")
        for client in quiet:
            client.close()

    def watchdog_sleeps_when_idle(self):
        self.eventually("the watchdog is disarmed when nothing is outstanding", self.watchdog_is(False))
        pid = self.main_pid()
        time.sleep(5)  # longer than the watchdog's interval: only a disarmed one stays quiet
        self.check("an idle daemon outlives the interval without a word",
                   self.main_pid() == pid and self.show("telemetryd.service", "NRestarts") == "0")

    def watchdog_is(self, armed):
        def condition():
            interval = self.show("telemetryd.service", "WatchdogUSec")
            fed = self.show("telemetryd.service", "WatchdogTimestampMonotonic")
            is_armed = interval not in ("0", "infinity") and fed != "0"
            return is_armed == armed, f"WatchdogUSec={interval} WatchdogTimestampMonotonic={fed}"
        return condition

    def holds_a_lease(self):
        """Sends to the upstream that never answers, until the forwarder is at work."""
        sent = self.ctl("event", "send", "--app", "stuck", "--urgent", "--name", "held", check=False)
        if sent.returncode != 0:
            self.check("an urgent event is accepted", False, sent.stderr)
        self.eventually("a stalled upstream shows as sending",
                        lambda: (self.destination("stalled").get("state") == "sending", self.destination("stalled")))

    def destination(self, name):
        return next((entry for entry in self.status()["destinations"] if entry["name"] == name), {})

    def forwarder_is_apart(self):
        # The rows are lent first and the forwarder is started for them, so it may be a moment away.
        self.eventually("the forwarder is a process of its own unit",
                        lambda: (self.outside_pid("telemetryd-forward") != 0
                                 and self.show("telemetryd-forward.service", "ActiveState") == "active", "not yet"))
        pid = self.outside_pid("telemetryd-forward")
        if not pid:
            return
        self.check("it runs as telemetryd-forward", self.process_status(pid, "Uid") == self.uid_of("telemetryd-forward"))
        self.check("it cannot see the store", not pathlib.Path(f"/proc/{pid}/root/var/lib/telemetryd/events.db").exists())
        self.check("it has the machine's network",
                   os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{self.machine.leader}/ns/net"))

    def survives_a_kill(self):
        self.eventually("the watchdog is armed while a lease is out", self.watchdog_is(True))
        before = self.status()["ledger"]
        pid = self.outside_pid("telemetryd")
        os.kill(pid, signal.SIGKILL)
        self.eventually("killed, it is started again", lambda: (
            self.show("telemetryd.service", "NRestarts") == "1" and self.show("telemetryd.service", "ActiveState") == "active",
            self.show("telemetryd.service", "ActiveState")))
        after = self.status()["ledger"]
        self.check("nothing is lost", after["accepted"] == before["accepted"] and after["queued"] == before["queued"],
                   f"{before} -> {after}")
        checked = self.ctl("ledger", "check", check=False)
        self.check("the ledger balances", checked.returncode == 0, checked.stdout + checked.stderr)

    def survives_a_hang(self):
        self.holds_a_lease()
        self.eventually("work is outstanding again", self.watchdog_is(True))
        restarts = int(self.show("telemetryd.service", "NRestarts"))
        os.kill(self.outside_pid("telemetryd"), signal.SIGSTOP)
        self.eventually("hung while work is outstanding, it is ended by the watchdog and started again", lambda: (
            int(self.show("telemetryd.service", "NRestarts")) > restarts
            and self.show("telemetryd.service", "ActiveState") == "active",
            self.show("telemetryd.service", "Result")), timeout_s=30)

    def reloads(self):
        result = self.machine.run("systemctl", "reload", "telemetryd.service", check=False)
        self.check("it reloads", result.returncode == 0 and self.show("telemetryd.service", "ActiveState") == "active",
                   result.stderr)

    def stops(self):
        self.machine.run("systemctl", "stop", *SOCKETS, "telemetryd-gateway.service", "telemetryd.service")
        self.check("it stops in order", self.show("telemetryd.service", "Result") == "success"
                   and self.show("telemetryd.service", "ExecMainStatus") == "0",
                   self.show("telemetryd.service", "Result") + " " + self.show("telemetryd.service", "ExecMainStatus"))
        self.eventually("its forwarder is gone", lambda: (self.outside_pid("telemetryd-forward") == 0, "alive"))

    def refuses_a_bad_configuration(self):
        self.machine.path("/etc/telemetryd/telemetryd.toml").write_text("[daemon]\nlog_levle = 1\n")
        result = self.machine.run("systemctl", "start", "telemetryd.service", check=False)
        self.check("a bad configuration does not start", result.returncode != 0)
        self.check("and is not tried again and again", self.show("telemetryd.service", "NRestarts") == "0",
                   self.show("telemetryd.service", "NRestarts"))


def stage(build, folder):
    environment = dict(os.environ, DESTDIR=str(folder))
    subprocess.run(["cmake", "--install", str(build)], env=environment, check=True, stdout=subprocess.DEVNULL)


def on_deadline(_signal, _frame):
    raise TimeoutError("not done in time")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--idle-seconds", type=int, default=10)
    options = parser.parse_args()
    build = options.build.resolve()
    deadline_s = DEADLINE_S + options.idle_seconds
    reason = container.missing()
    if reason:
        print(f"SKIPPED: the booted container needs root and systemd-nspawn: {reason}")
        return SKIPPED
    signal.signal(signal.SIGALRM, on_deadline)
    signal.alarm(deadline_s)
    machine = container.Container(deadline_s + 20)
    test = ServiceTest(machine, options.idle_seconds)
    try:
        stage(build, machine.stage)
        machine.boot()
        test.install()
        test.units_are_sound()
        # As a unit of the container: a child of this process inside it would outlive its systemd.
        machine.run("systemd-run", "--quiet", "--unit=stalled-upstream", "/usr/bin/python3", "-c", STALL)
        test.starts()
        test.sandbox_holds()
        test.takes_events_and_answers()
        test.forwards()
        test.takes_grpc()
        test.watchdog_sleeps_when_idle()
        test.holds_a_lease()
        test.forwarder_is_apart()
        test.survives_a_kill()
        test.survives_a_hang()
        test.reloads()
        test.stops()
        test.refuses_a_bad_configuration()
    except (RuntimeError, LookupError, ValueError, OSError, subprocess.SubprocessError) as problem:
        test.check("the test ran to its end", False, str(problem))
        if machine.leader:
            print(machine.journal("telemetryd.service", "telemetryd-forward.service")[-6000:])
    finally:
        signal.alarm(0)
        machine.stop()
    print(f"RESULT: {'ok' if test.failures == 0 else f'FAILED {test.failures} checks'}")
    return 1 if test.failures else 0


if __name__ == "__main__":
    sys.exit(main())
