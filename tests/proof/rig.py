"""What the proofs share: a telemetryd of their own, an upstream with a gate in front, clients, checks.

Everything lives in one temporary folder and ends with the `with` block. A proof ends with exit code
0 (the claim held), 1 (the claim is broken) or 2 (it could not be put to the test); sabotage.py and
scripts/prove depend on the difference.
"""

import contextlib
import ctypes
import http.client
import json
import mmap
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

HELD, BROKEN, UNTESTED = 0, 1, 2
SKIPPED = 77

ID_EPOCH_MS = 1_700_000_000_000


class Broken(Exception):
    """The claim under proof does not hold."""


class Untested(Exception):
    """Something kept the proof from being made."""


def event_id(producer, number):
    """The ID of a producer's event, as producer.cc makes it too: a UUIDv7 that says who and which."""
    return struct.pack(">Q", ID_EPOCH_MS + number)[2:] + bytes([0x70, producer, 0x80]) + number.to_bytes(7, "big")


def id_text(identifier):
    digits = identifier.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def wait_until(condition, timeout_s, what):
    """Returns the condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Untested(f"waited {timeout_s} s in vain for {what}")
        time.sleep(0.005)


# Looked up before there are threads: a child that is not a program yet must not wait for their locks.
PRCTL = ctypes.CDLL(None).prctl


def die_with_parent():
    # A proof that is killed must not leave daemons behind.
    PRCTL(1, signal.SIGKILL)


def hello_frame(app):
    """HELLO of a new instance of a short-named app, as docs/formats/frame.md has it."""
    name = app.encode()
    context = struct.pack("BBBB", 0x12, len(name) + 2, 0x0a, len(name)) + name
    hello = b"TLMF\x01\x00\x00\x00\x0a\x10" + os.urandom(16) + context + b"\x20\x01"
    return struct.pack("<IBBH", len(hello), 1, 0, 0) + hello


def greeted(path, timeout_s=10):
    """A client that has said HELLO and nothing since, and what it was answered."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    client.connect(str(path))
    client.sendall(hello_frame("quiet"))
    return client, client.recv(4096)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Gate:
    """The upstream's front door, which the proof opens and shuts while the port stays the same.

    dead: connections are closed at once. stalled: requests are read and never answered, so that a
    lease stays out. open: bytes go through to the real server.
    """

    def __init__(self, address="127.0.0.1"):
        self.mode = "dead"
        self.target = None
        self.listening = socket.create_server((address, 0), backlog=64)
        self.port = self.listening.getsockname()[1]
        self.lock = threading.Lock()
        self.unanswered = set()  # connections with a request that nobody has answered yet
        self.open_ones = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def set_mode(self, mode):
        """Connections of the mode before are cut."""
        with self.lock:
            self.mode = mode
            for connection in self.open_ones:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def requests_out(self):
        with self.lock:
            return len(self.unanswered)

    def close(self):
        self.set_mode("dead")
        self.listening.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with self.lock:
                mode = self.mode
                if mode != "dead":
                    self.open_ones.add(connection)
            if mode == "dead":
                connection.close()
            else:
                threading.Thread(target=self._serve, args=(connection, mode), daemon=True).start()

    def _serve(self, connection, mode):
        try:
            if mode == "stalled":
                while connection.recv(1 << 16):
                    with self.lock:
                        self.unanswered.add(connection)
            else:
                with socket.create_connection(self.target, timeout=5) as server:
                    server.settimeout(None)
                    back = threading.Thread(target=self._pump, args=(server, connection, False), daemon=True)
                    back.start()
                    self._pump(connection, server, True)
                    back.join()
        except OSError:
            pass
        finally:
            with self.lock:
                self.unanswered.discard(connection)
                self.open_ones.discard(connection)
            connection.close()

    def _pump(self, source, sink, is_request):
        connection = source if is_request else sink
        try:
            while data := source.recv(1 << 16):
                with self.lock:
                    (self.unanswered.add if is_request else self.unanswered.discard)(connection)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Rig:
    """One daemon, its folders and its upstream."""

    def __init__(self, build, telemetryd=None, keep=False, batch_events_max=500, commit_delay_ms=50,
                 sync_interval_s=1, request_timeout_s=60, bytes_max=4 << 30, store=""):
        self.bin = pathlib.Path(build).resolve() / "bin"
        self.tests = pathlib.Path(build).resolve() / "tests"
        self.telemetryd = pathlib.Path(telemetryd).resolve() if telemetryd else self.bin / "telemetryd"
        self.keep = keep
        self.batch_events_max = batch_events_max
        self.commit_delay_ms = commit_delay_ms
        self.sync_interval_s = sync_interval_s
        self.request_timeout_s = request_timeout_s
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="telemetryd-proof-"))
        self.bytes_max = bytes_max
        self.store = store  # more lines of that section
        self.state = self.folder / "state"
        self.runtime = self.folder / "run"
        self.log = self.folder / "telemetryd.log"
        self.config = self.folder / "telemetryd.toml"
        self.server_database = self.folder / "server.db"
        self.gate = Gate()
        self.daemon = None
        self.server = None
        self.starts = 0
        self.started = []
        # A user's own consent and variables must not decide what a proof sees.
        self.environment = {key: value for key, value in os.environ.items()
                            if key not in ("CI", "DO_NOT_TRACK", "DNT", "TELEMETRYD_SOCKET", "XDG_STATE_HOME",
                                           "XDG_RUNTIME_DIR") and not key.endswith("_TELEMETRY")}
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config-home")
        self.environment["HOME"] = str(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        self.gate.close()
        if self.keep:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ingest_socket(self):
        return self.runtime / "ingest.sock"

    @property
    def admin_socket(self):
        return self.runtime / "admin.sock"

    def spawn(self, *command, **options):
        process = subprocess.Popen([str(word) for word in command], env=self.environment,
                                   stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **options)
        self.started.append(process)
        return process

    def run(self, *command, timeout_s=60, check=True):
        result = subprocess.run([str(word) for word in command], env=self.environment, text=True,
                                capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s)
        if check and result.returncode != 0:
            raise Untested(f"{' '.join(map(str, command))}: exit code {result.returncode}: {result.stderr.strip()}")
        return result

    def ctl(self, *words, **options):
        return self.run(self.bin / "telemetryctl", "--socket", self.admin_socket, "--ingest-socket", self.ingest_socket,
                        *words, **options)

    # The daemon.

    def write_config(self, destinations="", routes="", more=""):
        machine_id = self.folder / "machine-id"
        if not machine_id.exists():
            machine_id.write_text(random.randbytes(16).hex() + "\n")
        self.config.write_text(f"""
[daemon]
state_dir = "{self.state}"
runtime_dir = "{self.runtime}"
[ingest]
events_per_second_per_uid_max = 0
events_per_second_per_app_max = 0
[store]
bytes_max = {self.bytes_max}
commit_delay_max_ms = {self.commit_delay_ms}
trickle_delay_max_ms = 0
{self.store}
[forward]
sync_interval_s = {self.sync_interval_s}
batch_events_max = {self.batch_events_max}
retry_delay_min_ms = 100
retry_delay_max_s = 1
request_timeout_s = {self.request_timeout_s}
program = "{self.bin / 'telemetryd-forward'}"
[policy]
mode = "opt-out"
[identity]
machine_id_file = "{machine_id}"
{more}
{destinations}
{routes}
""")

    def start_daemon(self, prefix=(), timeout_s=20):
        """`prefix` is a command to run it under, such as strace."""
        if not self.try_to_start(prefix, timeout_s):
            raise Broken(f"the daemon ended with {self.daemon.returncode} while starting:\n{self.log_tail()}")

    def try_to_start(self, prefix=(), timeout_s=20):
        """False when it ends before it is ready."""
        self.starts += 1
        with open(self.log, "ab") as log:
            self.daemon = self.spawn(*prefix, self.telemetryd, "--config", self.config, stdout=log, stderr=log)
        wait_until(lambda: self.daemon.poll() is not None or self.get("/readyz", parse=False) == "ready", timeout_s,
                   "the daemon to be ready")
        return self.daemon.poll() is None

    def stop_daemon(self, timeout_s=30):
        self.daemon.terminate()
        try:
            code = self.daemon.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise Broken(f"the daemon did not stop within {timeout_s} s of SIGTERM") from late
        if code != 0:
            raise Broken(f"the daemon stopped with exit code {code}:\n{self.log_tail()}")

    def log_tail(self):
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def get(self, path, parse=True):
        """An answer of the admin API; nothing when nobody answers."""
        try:
            connection = UnixConnection(self.admin_socket, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", path)
                text = connection.getresponse().read().decode()
                return json.loads(text) if parse else text.strip()
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    def status(self):
        return wait_until(lambda: self.get("/v1/status"), 10, "the status")

    def destination(self, name="upstream"):
        return next((one for one in self.status()["destinations"] if one["name"] == name), {})

    def forwarder_pid(self):
        """The daemon's child; 0 when there is none."""
        pid = self.daemon.pid
        try:
            for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("telemetryd-forw"):
                    return int(child)
        except OSError:
            pass
        return 0

    # The upstream.

    def destination_at_server(self, name, org="proof", app="machine"):
        """Registers at the server's database; returns the [[destination]] for the daemon."""
        credentials = self.folder / "credentials"
        credentials.mkdir(mode=0o700, exist_ok=True)
        server, database = self.bin / "telemetry-server", f"sqlite:{self.server_database}"
        self.run(server, "migrate", "--database", database)
        self.run(server, "org", "create", "--database", database, org)
        result = self.run(server, "app", "create", "--database", database, "--org", org, "--app", app, "--url",
                          f"http://127.0.0.1:{self.gate.port}", "--print-config", "--out-dir", credentials)
        found = re.search(r"^\[\[destination\]\]\n(?:[a-z_]+ = .*\n)+", result.stdout, re.MULTILINE)
        if not found:
            raise Untested("telemetry-server printed no [[destination]]:\n" + result.stdout)
        return re.sub(r"(?m)^name = .*$", f'name = "{name}"', found[0])

    def start_server(self, through_gate=True, more=()):
        port_file = self.folder / "server.port"
        with contextlib.suppress(FileNotFoundError):
            port_file.unlink()
        with open(self.folder / "server.log", "ab") as log:
            self.server = self.spawn(self.bin / "telemetry-server", "serve", "--listen", "127.0.0.1:0",
                                     "--port-file", port_file, "--database", f"sqlite:{self.server_database}",
                                     *more, stdout=log, stderr=log)

        def port():
            if self.server.poll() is not None:
                raise Untested("the server ended:\n" + (self.folder / "server.log").read_text()[-2000:])
            return port_file.exists() and port_file.read_text().strip()

        self.gate.target = ("127.0.0.1", int(wait_until(port, 20, "the server to listen")))
        if through_gate:
            self.gate.set_mode("open")

    def check_ledger(self):
        result = self.ctl("ledger", "check", check=False)
        if result.returncode != 0:
            raise Broken(f"the daemon's ledger does not balance: {result.stdout}{result.stderr}")

    def wait_for_the_drain(self, patience_s=30):
        """As long as the queue gets shorter."""
        queued, since = None, time.monotonic()
        while (now := self.status()["ledger"]["queued"]) > 0:
            if now != queued:
                queued, since = now, time.monotonic()
            elif time.monotonic() - since > patience_s:
                raise Broken(f"{now} events stay queued: {self.destination()}")
            time.sleep(0.05)

    def arrivals(self):
        """(event ID, payload) of everything at the stopped server, in the order it came, and how many came again."""
        checked = self.run(self.bin / "telemetry-server", "event", "count", "--json", "--check", "--database",
                           f"sqlite:{self.server_database}", check=False)
        if checked.returncode != 0:
            raise Broken(f"the server's ledger does not balance: {checked.stdout}{checked.stderr}")
        with contextlib.closing(sqlite3.connect(f"file:{self.server_database}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT event_id, payload FROM events ORDER BY id").fetchall()
            return rows, database.execute("SELECT coalesce(sum(duplicates), 0) FROM counters").fetchone()[0]

    def stop_server(self):
        self.server.terminate()
        self.server.wait(20)


class Producer:
    """A process that links libtelemetry; its counters are in a file shared with this one."""

    COUNTERS = ("accepted", "acknowledged", "refused", "queued", "frames_sent", "frames_resent", "reconnects", "done")

    def __init__(self, rig, app, index, events, rate=0, flush_each=False, first=0, frame_bytes=4096,
                 pad_bytes=0):
        self.app, self.index, self.events, self.first = app, index, events, first
        self.name = f"producer-{index}"
        file = rig.folder / f"counters-{index}-{first}"
        file.write_bytes(bytes(8 * len(self.COUNTERS)))
        with open(file, "r+b") as shared:
            self.shared = mmap.mmap(shared.fileno(), 0)
        self.process = rig.spawn(rig.tests / "proof_producer", "--socket", rig.ingest_socket, "--app", app,
                                 "--index", index, "--first", first, "--events", events, "--rate", rate,
                                 "--frame-bytes", frame_bytes, "--pad-bytes", pad_bytes, "--counters", file,
                                 *(["--flush-each"] if flush_each else []),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def counters(self):
        return dict(zip(self.COUNTERS, struct.unpack(f"<{len(self.COUNTERS)}Q", self.shared[:])))

    def finish(self, timeout_s):
        try:
            output, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            raise Broken(f"{self.name} did not get its events acknowledged: {self.counters()}") from late
        text = output.decode()
        if self.process.returncode != 0:
            raise Broken(f"{self.name} ended with {self.process.returncode}: {text[-500:]}")
        return json.loads(text.splitlines()[-1])


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """The (number, value) pairs of an encoded protobuf message."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 1:
            value, at = data[at:at + 8], at + 8
        elif kind == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind == 5:
            value, at = data[at:at + 4], at + 4
        else:
            raise Broken(f"a stored event has a field of wire type {kind}")
        yield number, value


def event_number(event):
    """The attribute `n` of an encoded Event: field 14 is an Attribute, its field 4 a zigzag integer."""
    for number, value in fields(event):
        if number == 14:
            attribute = dict(fields(value))
            if attribute.get(1) == b"n":
                encoded = attribute.get(4, 0)
                return (encoded >> 1) ^ -(encoded & 1)
    raise Broken("an event at the server has lost its number")


def check_arrivals(rows, wanted, number_of=event_number):
    """Each event once, with its own ID and content, each producer's in the order it made them."""
    next_number = dict.fromkeys(wanted, 0)
    for identifier, payload in rows:
        producer = identifier[7]
        number = number_of(payload)
        if producer not in next_number or identifier != event_id(producer, number):
            raise Broken(f"event {id_text(identifier)} at the server says that it is number {number}")
        if number != next_number[producer]:
            raise Broken(f"after event {next_number[producer] - 1} of producer {producer} came {number}")
        next_number[producer] += 1
    for producer, count in wanted.items():
        if next_number[producer] != count:
            raise Broken(f"{count - next_number[producer]} events of producer {producer} never arrived")


def strace_refused():
    """Why strace cannot be used here; empty when it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    probe = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return probe.stderr.strip() if probe.returncode != 0 else ""


def one_line(problem):
    return " ".join(str(problem).split())


def finish(name, summary, proof):
    """Runs `proof`, prints the summary line and the RESULT line, returns the exit code."""
    started = time.monotonic()
    try:
        proof()
        code, words = HELD, "ok"
    except Broken as broken:
        code, words = BROKEN, f"FAILED {one_line(broken)}"
    except (Untested, OSError, subprocess.SubprocessError) as problem:
        code, words = UNTESTED, f"FAILED could not be put to the test: {one_line(problem)}"
    figures = " ".join(f"{key}={value}" for key, value in summary.items())
    print(f"{name}: {figures} seconds={time.monotonic() - started:.1f}")
    print(f"RESULT: {words}", flush=True)
    return code


def arguments(parser):
    """The flags every proof has."""
    parser.add_argument("--build", default="build/dev", help="folder of the build whose programs are put to the test")
    parser.add_argument("--telemetryd", help="another telemetryd than the build's")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "little")
    random.seed(options.seed)
    print(f"seed={options.seed}", flush=True)
    sys.stdout.reconfigure(line_buffering=True)
    return options
