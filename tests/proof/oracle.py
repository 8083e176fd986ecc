#!/usr/bin/env python3
"""Whatever happens to the processes, the network and the disk: what was acknowledged arrives, once.

Producers hand in numbered events, over the socket and over gRPC, while a driver kills and freezes
daemon, forwarder, gateway and server, cuts the network, fills the disk and breaks its syncs. The
oracle knows which events were acknowledged; when the faults have ended it wants each at the server
exactly once, in order, with its own content, nothing else, and a fresh event to flow. Every kind of
fault must have been seen to happen.

--minutes makes a soak of it: then killing the daemon ends after two fifths of the time, and its
anonymous memory must stay flat in the rest.
"""

import argparse
import collections
import contextlib
import errno
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

import rig as rigs
import trace
from rig import Broken, Untested, wait_until

DISK_BYTES = 64 << 20
QUOTA_BYTES = 24 << 20
STORE_UNUSABLE = 74
AUDITED, OVER_GRPC, FRESH = 1, 50, 60
STREAMS = {10: ("shared", 400), 11: ("shared", 400), 12: ("alone", 1500), 13: ("slow", 20)}
CUT_ACKNOWLEDGEMENTS = (1, 50, 95, 96, 97, 98, 99)  # early ones, and as late as a broken store may need to lose count
CHUNK_S = 15  # a producer's life; the next goes on where it ended
MEMORY_GROWTH_MAX_KIB = 2048
MEMORY_SAMPLES_MIN = 60
IN_NAMESPACE = "TELEMETRYD_PROOF_NAMESPACE"


class Stream(threading.Thread):
    """Producers of one index, one after the other, until told to stop."""

    def __init__(self, rig, index, app, rate):
        super().__init__(daemon=True)
        self.rig, self.index, self.app, self.rate = rig, index, app, rate
        self.issued = 0
        self.resent = 0
        self.problem = ""
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.chunk(self.rate * CHUNK_S)
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = f"{self.app}: {rigs.one_line(problem)}"

    def chunk(self, events):
        producer = rigs.Producer(self.rig, self.app, self.index, events, rate=self.rate, first=self.issued, frame_bytes=2048)
        self.issued += events
        last = producer.finish(CHUNK_S + 120)
        if last["acknowledged"] != events or last["refused"] or last["lost"] or last["dropped"]:
            raise Broken(f"{events} events were handed in, the producer was told {last}")
        self.resent += last["frames_resent"]


class GrpcStream(Stream):
    """The same through the gateway: a request is sent again, with its number, until it is answered."""

    def __init__(self, rig, index, modules):
        super().__init__(rig, index, "grpc", 20)
        self.grpc, self.stubs = modules

    def run(self):
        instance = os.urandom(16)
        number = 0
        try:
            # Its own waits between attempts would grow to minutes; the daemon's behaviour is what is watched.
            waits = [("grpc.min_reconnect_backoff_ms", 1000), ("grpc.max_reconnect_backoff_ms", 2000)]
            with self.grpc.insecure_channel(f"unix:{self.rig.runtime / 'grpc.sock'}", options=waits) as channel:
                call = self.stubs.ingest_grpc.IngestServiceStub(channel).Publish
                while not self.stopping.is_set():
                    number += 1
                    self.publish(call, instance, number)
                    self.stopping.wait(0.5)
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = f"{self.app}: {rigs.one_line(problem)}"

    def publish(self, call, instance, number):
        events = [{"id": rigs.event_id(self.index, n), "time_unix_nano": (rigs.ID_EPOCH_MS + n) * 1_000_000, "name": "proof",
                   "attributes": [{"key": "n", "int_value": n}]} for n in range(self.issued, self.issued + self.rate)]
        self.issued += self.rate
        request = self.stubs.ingest.PublishRequest(events=events, instance=instance, number=number, oldest_number=number,
                                                   context={"app": self.app})
        deadline = time.monotonic() + 120
        while True:
            try:
                if call(request, timeout=10).acknowledged >= number:
                    return
                raise Broken(f"request {number} was answered without being acknowledged")
            except self.grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise Broken(f"request {number} was not acknowledged in 120 s: {error.details()}") from error
                self.resent += 1
                time.sleep(0.1)


class Faults:
    """Each returns True when it was seen to have happened."""

    def __init__(self, rig, on_disk_of_its_own):
        self.rig = rig
        self.seen = collections.Counter()
        self.tried = collections.Counter()
        self.kinds = {"kill daemon": self.kill_daemon, "kill forwarder": self.kill_forwarder,
                      "kill server": self.kill_server, "freeze daemon": self.freeze_daemon,
                      "freeze server": self.freeze_server, "network dead": self.network_dead,
                      "network stalled": self.network_stalled}
        if on_disk_of_its_own:
            self.kinds["disk full"] = self.disk_full
        if not rigs.strace_refused():
            self.kinds["sync error"] = self.sync_error
            self.kinds["write error"] = self.write_error

    def happen(self, kind):
        self.tried[kind] += 1
        if self.kinds[kind]():
            self.seen[kind] += 1
        self.supervise()

    def supervise(self):
        """Starts it again as the service manager would."""
        code = self.rig.daemon.poll()
        if code is None:
            return
        if code != STORE_UNUSABLE:
            raise Broken(f"the daemon ended by itself with {code}:\n{self.rig.log_tail()}")
        self.rig.start_daemon()

    def kill_daemon(self):
        self.rig.daemon.kill()
        self.rig.daemon.wait()
        self.rig.start_daemon()
        return True

    def child(self, name, timeout_s=3):
        pid = self.rig.daemon.pid

        def find():
            with contextlib.suppress(OSError):
                for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    if pathlib.Path(f"/proc/{child}/comm").read_text().startswith(name):
                        return int(child)
            return 0

        deadline = time.monotonic() + timeout_s
        while not (found := find()) and time.monotonic() < deadline:
            time.sleep(0.002)
        return found

    def kill_child(self, name):
        pid = self.child(name)
        if not pid:
            return False
        time.sleep(random.uniform(0, 0.05))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def kill_forwarder(self):
        return self.kill_child("telemetryd-forw")

    def kill_gateway(self):
        return self.kill_child("telemetryd-gate")

    def kill_server(self):
        self.rig.server.kill()
        self.rig.server.wait()
        time.sleep(random.uniform(0, 1))
        self.rig.start_server()
        return True

    def freeze(self, process):
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt", 5,
                   "the process to stop")
        time.sleep(random.uniform(0.2, 1.5))
        process.send_signal(signal.SIGCONT)
        return True

    def freeze_daemon(self):
        return self.freeze(self.rig.daemon)

    def freeze_server(self):
        return self.freeze(self.rig.server)

    def network(self, mode):
        self.rig.gate.set_mode(mode)
        time.sleep(random.uniform(0.5, 2))
        hit = mode == "dead" or self.rig.gate.requests_out() > 0
        self.rig.gate.set_mode("open")
        return hit

    def network_dead(self):
        return self.network("dead")

    def network_stalled(self):
        return self.network("stalled")

    def disk_full(self):
        """By somebody else, to the last byte."""
        filler = self.rig.state / "somebody-else"
        refused = 0
        try:
            with open(filler, "wb", buffering=0) as out:
                for size in (65536, 512):
                    try:
                        while True:
                            out.write(b"x" * size)
                    except OSError as error:
                        refused += error.errno == errno.ENOSPC
            time.sleep(random.uniform(0.5, 2))
        finally:
            filler.unlink()
        return refused == 2

    def failing(self, call, error):
        trace_file = self.rig.folder / "fault-trace"
        strace = self.rig.spawn("strace", "-f", "-qq", "-s", "0", "-e", "signal=none", "-e", f"trace={call}", "-e",
                                f"inject={call}:error={error}:when=2", "-o", trace_file, "-p", self.rig.daemon.pid)
        time.sleep(random.uniform(0.5, 1))
        strace.send_signal(signal.SIGINT)
        strace.wait(20)
        # The daemon takes a moment to end when it must.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.rig.daemon.wait(0.3)
        return trace_file.exists() and "(INJECTED)" in trace_file.read_text(errors="replace")

    def sync_error(self):
        return self.failing("fdatasync", "EIO")

    def write_error(self):
        return self.failing("pwrite64", random.choice(("EIO", "ENOSPC", "EDQUOT", "EROFS")))


class Memory(threading.Thread):
    """Anonymous memory of the daemon, once a second, in KiB."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig = rig
        self.samples = []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(1):
            with contextlib.suppress(OSError, StopIteration):
                status = pathlib.Path(f"/proc/{self.rig.daemon.pid}/status").read_text()
                line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
                self.samples.append(int(line.split()[1]))

    def growth(self):
        """From the first third, without its beginning, to the last."""
        warm = self.samples[len(self.samples) // 5:]
        third = len(warm) // 3
        return statistics.median(warm[-third:]) - statistics.median(warm[:third])


class Oracle:
    def __init__(self, rig, options, summary, has_disk):
        self.rig, self.options, self.summary = rig, options, summary
        self.faults = Faults(rig, has_disk)
        self.has_disk = has_disk
        self.streams = []
        self.cuts = 0
        self.wanted = collections.Counter()

    def prove(self):
        rig = self.rig
        gateway = f'[gateway]\nprogram = "{rig.bin / "telemetryd-gateway"}"\n'
        rig.write_config(rig.destination_at_server("upstream"), '[[route]]\napp = "*"\ndestination = "upstream"\n', more=gateway)
        rig.start_server()
        self.audit()
        self.cut_acknowledgements()
        rig.start_daemon()
        self.begin_streams()
        seconds = self.options.minutes * 60
        self.drive(seconds * 2 / 5, list(self.faults.kinds))
        self.drive_in_peace(seconds * 3 / 5)
        self.end_streams()
        self.check_the_end()
        self.check_that_it_was_a_test()

    def audit(self):
        """The first events, under the eyes of strace: killing processes says nothing about what would survive the power."""
        rig = self.rig
        if rigs.strace_refused():
            return
        file = rig.folder / "audit"
        rig.start_daemon(prefix=("strace", "-f", "-D", "-q", "-y", "-xx", "-s", "1000000", "-o", str(file), "-e", "signal=none",
                                 "-e", "trace=" + trace.CALLS), timeout_s=60)
        producer = rigs.Producer(rig, "audited", AUDITED, 120, flush_each=True)
        self.wanted[AUDITED] = 120
        producer.finish(120)
        rig.check_ledger()
        rig.stop_daemon()
        judge = trace.Judge().read(file.read_text(errors="replace").splitlines())
        file.unlink()
        if judge.problems:
            raise Broken(f"{len(judge.problems)} of {judge.acks} acknowledgements came too early; " + judge.problems[0])
        if judge.acks < 100:
            raise Untested(f"only {judge.acks} acknowledgements were seen")
        self.summary.update(acks_traced=judge.acks)

    def cut_acknowledgements(self):
        """Killed between the commit and telling the client: the frame comes again, and must not count again."""
        rig = self.rig
        if rigs.strace_refused():
            return
        for n in CUT_ACKNOWLEDGEMENTS:
            rig.start_daemon(prefix=("strace", "-f", "-D", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", "trace=sendto",
                                     "-e", f"inject=sendto:signal=KILL:when={n}"), timeout_s=60)
            producer = rigs.Producer(rig, "audited", AUDITED, 120, flush_each=True, first=self.wanted[AUDITED])
            self.wanted[AUDITED] += 120
            wait_until(lambda p=producer: rig.daemon.poll() is not None or p.process.poll() is not None, 60, "a crash")
            self.cuts += rig.daemon.poll() == -signal.SIGKILL
            if rig.daemon.poll() is None:
                rig.stop_daemon()
            rig.start_daemon()
            last = producer.finish(60)
            if last["acknowledged"] != 120 or last["refused"] or last["lost"] or last["dropped"]:
                raise Broken(f"120 events were handed in, the producer was told {last}")
            rig.check_ledger()
            rig.stop_daemon()
        if not self.cuts:
            raise Untested("no acknowledgement was cut off")
        self.summary.update(acks_cut=self.cuts)

    def begin_streams(self):
        self.streams = [Stream(self.rig, index, app, rate) for index, (app, rate) in STREAMS.items()]
        if modules := grpc_modules():
            self.streams.append(GrpcStream(self.rig, OVER_GRPC, modules))
            self.faults.kinds["kill gateway"] = self.faults.kill_gateway
        for stream in self.streams:
            stream.start()

    def drive(self, seconds, kinds):
        """Every kind once, whatever the time says, and then again."""
        until = time.monotonic() + seconds
        patience = until + 120
        kinds = [kind for kind in kinds + ["kill gateway"] if kind in self.faults.kinds]
        while True:
            random.shuffle(kinds)
            for kind in kinds:
                time.sleep(random.uniform(0.1, 1))
                self.faults.happen(kind)
                self.check_streams()
                if time.monotonic() > until and (all(self.faults.seen[one] for one in kinds) or time.monotonic() > patience):
                    return

    def drive_in_peace(self, seconds):
        """All but the death of the daemon, so that its memory can be watched."""
        memory = Memory(self.rig)
        memory.start()
        self.drive(seconds, [kind for kind in self.faults.kinds if kind not in ("kill daemon", "sync error", "write error")])
        memory.stopping.set()
        memory.join()
        if len(memory.samples) < MEMORY_SAMPLES_MIN:
            return
        growth = memory.growth()
        self.summary.update(memory_kib=int(statistics.median(memory.samples)), memory_growth_kib=int(growth))
        if growth > MEMORY_GROWTH_MAX_KIB:
            raise Broken(f"anonymous memory grew by {growth} KiB in {len(memory.samples)} s; {MEMORY_GROWTH_MAX_KIB} are allowed")

    def check_streams(self):
        for stream in self.streams:
            if stream.problem:
                raise Broken(stream.problem)

    def end_streams(self):
        for stream in self.streams:
            stream.stopping.set()
        for stream in self.streams:
            stream.join(180)
            if stream.is_alive():
                raise Broken(f"{stream.app}: its events are not acknowledged")
            self.wanted[stream.index] = stream.issued
        self.check_streams()
        self.summary.update(frames_sent_again=sum(stream.resent for stream in self.streams))

    def check_the_end(self):
        rig = self.rig
        rigs.Producer(rig, "fresh", FRESH, 10, flush_each=True).finish(30)
        self.wanted[FRESH] = 10
        rig.ctl("queue", "flush", "--deadline", "5", check=False)
        rig.wait_for_the_drain()
        rig.check_ledger()
        ledger = rig.status()["ledger"]
        total = sum(self.wanted.values())
        if ledger["evicted"]["total"]:
            raise Untested("the quota was reached, so losses were allowed")
        if ledger["accepted"] != total or ledger["delivered"] != total:
            raise Broken(f"{total} events were acknowledged, the drained ledger says {ledger}")
        rig.stop_daemon()
        rig.stop_server()
        rows, again = rig.arrivals()
        rigs.check_arrivals(rows, self.wanted)
        self.summary.update(acknowledged=total, arrived=len(rows), lost=total - len(rows), stored_twice=0, sent_again=again)

    def check_that_it_was_a_test(self):
        for kind, tried in sorted(self.faults.tried.items()):
            print(f"  {self.faults.seen[kind]:5} of {tried} {kind}")
        self.summary.update(faults=sum(self.faults.seen.values()), kinds=len(self.faults.seen))
        missing = [kind for kind in self.faults.kinds if not self.faults.seen[kind]]
        if missing:
            raise Untested("never happened: " + ", ".join(missing))
        if not self.has_disk:
            print("  not staged: a full disk, which needs root and unshare")


def grpc_modules():
    """Debian's Python has them; without them there is no stream through the gateway."""
    # Its threads would keep this process from starting others.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration/examples"))
    try:
        import grpc
        import stubs
    except (ImportError, OSError, subprocess.SubprocessError):
        print("  not staged: the gateway, which needs Python's grpcio and protoc")
        return None
    return grpc, stubs


def enter_namespace():
    """Again in a mount namespace of its own, where a small disk can be mounted; without one, as it is."""
    if IN_NAMESPACE in os.environ or os.geteuid() != 0:
        return
    command = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[IN_NAMESPACE] = "1"
        os.execvp(command[0], [*command, sys.executable, "-B", *sys.argv])


def mount_disk(rig):
    """A disk that can be filled without harm to anybody."""
    if IN_NAMESPACE not in os.environ:
        return False
    rig.state.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(rig.state)],
                             capture_output=True, check=False)
    return mounted.returncode == 0


def main():
    enter_namespace()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=None, help="of faults; default 2, quick a quarter")
    options = rigs.arguments(parser)
    options.minutes = options.minutes or (0.25 if options.quick else 2)
    summary = {"seed": options.seed, "minutes": options.minutes}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep, commit_delay_ms=20,
                  request_timeout_s=3, bytes_max=QUOTA_BYTES) as rig:
        has_disk = mount_disk(rig)
        if has_disk:
            rig.store = f"free_disk_bytes_min = {DISK_BYTES // 64}"
        try:
            return rigs.finish("oracle", summary, Oracle(rig, options, summary, has_disk).prove)
        finally:
            for process in rig.started:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                    process.wait()
            if has_disk:
                subprocess.run(["umount", "--lazy", str(rig.state)], check=False)


if __name__ == "__main__":
    sys.exit(main())
