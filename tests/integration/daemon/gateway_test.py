#!/usr/bin/env python3
"""Do telemetryd and its gateway work together?

Real programs and a gRPC client of another make, as another user. Needs root, because only root can
be somebody else, and Python's grpcio; says SKIPPED and ends with 77 where it cannot run.

usage: gateway_test.py BUILD_FOLDER
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
NOBODY = 65534
DEADLINE_S = 100
SEND = pathlib.Path(__file__).parents[2] / "system" / "grpc_send.py"
CLOSING = 68
PROTOCOL = 8

CONFIG = """
[policy]
mode = "opt-out"
[store]
commit_delay_max_ms = 1
[gateway]
idle_exit_s = 1
"""


class Admin(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class GatewayTest:
    def __init__(self, build, folder):
        self.build = build
        self.folder = folder
        self.run = folder / "run"
        self.failures = 0
        config = folder / "telemetryd.toml"
        config.write_text(CONFIG)
        self.log = open(folder / "log", "wb")
        self.daemon = subprocess.Popen(
            [build / "bin/telemetryd", "--config", config, "--state-dir", folder / "state", "--runtime-dir", self.run],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def check(self, claim, holds, seen=""):
        if not holds:
            self.failures += 1
        print(f"{'ok' if holds else 'FAILED'}: {claim}" + (f" ({seen})" if seen != "" and not holds else ""), flush=True)

    def eventually(self, claim, condition, timeout_s=20):
        """`condition` returns (holds, what was seen)."""
        deadline = time.monotonic() + timeout_s
        while True:
            holds, seen = condition()
            if holds or time.monotonic() > deadline:
                return self.check(claim, holds, seen)
            time.sleep(0.05)

    def get(self, path):
        connection = Admin(self.run / "admin.sock")
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def gateway(self):
        return self.get("/v1/status")["gateway"]

    def gateway_is(self, **wanted):
        def condition():
            seen = self.gateway()
            return all(seen[key] == value for key, value in wanted.items()), seen
        return condition

    def send(self, name, uid=NOBODY):
        # Not this script's own interpreter, which may know nothing of gRPC.
        return subprocess.run(["/usr/bin/python3", SEND, self.run / "grpc.sock", "tool", name], text=True,
                              capture_output=True, timeout=40, user=uid, group=uid, extra_groups=[], cwd="/")

    def child(self):
        children = pathlib.Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return next((int(pid) for pid in children
                     if "telemetryd-gateway" in os.readlink(f"/proc/{pid}/exe")), 0)

    def switches(self):
        return [line for task in pathlib.Path(f"/proc/{self.daemon.pid}/task").iterdir()
                for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line]

    # In the order of its life: waited for, used, abused, idle, killed, stopped.

    def waits(self):
        self.eventually("the daemon listens for gRPC", lambda: ((self.run / "grpc.sock").exists(), "no socket"))
        self.eventually("and is ready", lambda: ((self.run / "policy").exists(), "no policy file"))
        self.check("nothing runs before somebody comes", self.gateway_is(state="listening", starts=0)()[0], self.gateway())

    def takes_another_users_event(self):
        sent = self.send("first")
        self.check("an ordinary user publishes", sent.returncode == 0 and sent.stdout.strip() == "1",
                   sent.stdout + sent.stderr)
        self.check("the first connection started the gateway", self.gateway_is(state="running", starts=1)()[0], self.gateway())
        events = self.get("/v1/events")["events"]
        self.check("the event belongs to its sender", [(event["name"], event["uid"]) for event in events]
                   == [("first", NOBODY)], events)
        self.check("it is acknowledged because it is stored", self.get("/v1/ledger")["machine"]["accepted"] == 1)

    def refuses_a_forged_uid(self):
        context = b"\x12\x06\x0a\x04tool"
        hello = b"TLMF\x01\x00\x00\x00" + b"\x0a\x10" + os.urandom(16) + context + b"\x20\x01" + b"\x40\x05"
        for uid in (0, NOBODY):
            answer = subprocess.run(["/usr/bin/python3", "-c", FORGER, self.run / "ingest.sock"],
                                    input=struct.pack("<IBBH", len(hello), 1, 0, 0) + hello,
                                    capture_output=True, timeout=30, user=uid, cwd="/").stdout
            kind = answer[4] if len(answer) > 10 else None
            code = struct.unpack_from("<H", answer, 8)[0] if len(answer) > 10 else None
            self.check(f"uid {uid} cannot speak for another", (kind, code) == (CLOSING, PROTOCOL), answer)
        self.check("both are counted", self.get("/v1/status")["ingest"]["peer_uids_refused"] == 2)
        self.check("nothing of it is stored", self.get("/v1/ledger")["machine"]["accepted"] == 1)

    def leaves_when_idle(self):
        self.eventually("idle, the gateway leaves", self.gateway_is(state="listening", last_exit="exit status 0"))
        # Idle is the absence of something, which takes time to see.
        for _ in range(10):
            before = self.switches()
            time.sleep(2)
            if self.switches() == before:
                return self.check("and the daemon does not wake any more", True)
        self.check("and the daemon does not wake any more", False)

    def comes_back(self):
        sent = self.send("second")
        self.check("the next event starts it again", sent.returncode == 0, sent.stdout + sent.stderr)
        self.check("for the second time", self.gateway()["starts"] == 2, self.gateway())
        os.kill(self.child(), signal.SIGKILL)
        self.eventually("a killed gateway is noticed", lambda: (self.gateway()["last_exit"] == "signal 9", self.gateway()))
        sent = self.send("third")
        self.check("and the next event is published all the same", sent.returncode == 0, sent.stdout + sent.stderr)
        names = [event["name"] for event in self.get("/v1/events")["events"]]
        self.check("each event is stored once, in order", names == ["first", "second", "third"], names)

    def stops(self):
        child = self.child()
        self.check("the gateway runs", child != 0)
        self.daemon.terminate()
        self.check("the daemon stops in order", self.daemon.wait(20) == 0, self.daemon.returncode)
        self.check("its gateway is gone", not pathlib.Path(f"/proc/{child}").exists())
        self.check("its socket is gone", not (self.run / "grpc.sock").exists())

    def end(self):
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        self.log.close()
        if self.failures:
            print((self.folder / "log").read_text(errors="replace")[-6000:])


FORGER = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.buffer.read())
while piece := connection.recv(4096):
    sys.stdout.buffer.write(piece)
"""


def missing(build):
    """Why this cannot run here; empty when it can."""
    if os.geteuid() != 0:
        return "not root, so nobody else can send"
    if not (build / "bin/telemetryd-gateway").exists():
        return "telemetryd-gateway is not built"
    if subprocess.run(["/usr/bin/python3", "-c", "import grpc"], capture_output=True).returncode != 0:
        return "python3-grpcio is not installed"
    return ""


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    if why := missing(build):
        print(f"SKIPPED: {why}")
        return SKIPPED
    signal.alarm(DEADLINE_S)
    with tempfile.TemporaryDirectory(prefix="tlm-") as folder:
        os.chmod(folder, 0o755)
        test = GatewayTest(build, pathlib.Path(folder))
        try:
            test.waits()
            test.takes_another_users_event()
            test.refuses_a_forged_uid()
            test.leaves_when_idle()
            test.comes_back()
            test.stops()
        except (LookupError, ValueError, OSError, subprocess.SubprocessError) as problem:
            test.check("the test ran to its end", False, repr(problem))
        finally:
            test.end()
    print(f"RESULT: {'ok' if test.failures == 0 else f'FAILED {test.failures} checks'}")
    return 1 if test.failures else 0


if __name__ == "__main__":
    sys.exit(main())
