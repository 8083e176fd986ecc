#!/usr/bin/env python3
"""A disk that refuses, system call by system call: nothing acknowledged is lost, nothing is told twice.

strace makes calls of the real daemon fail: once or until the fault is lifted, while it starts or
while clients hand in events. The daemon must go on, or recover when the fault is lifted, or end with
74 and recover at the next start. Afterwards every producer must have been told of every event
exactly once, every event must be at the server exactly once and in order, and all ledgers agree.
"""

import argparse
import collections
import random
import signal
import sys
import time

import rig as rigs
from rig import Broken, Untested, wait_until

STEADY = 1
EVENTS_EACH = 15
STORE_UNUSABLE = 74
FOR_EVER = "+"

# (what fails, how). `when` counts from the start, or from the moment the fault begins.
WHILE_RUNNING = [
    ("fdatasync", "EIO"), ("fdatasync", "ENOSPC"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EDQUOT"),
    ("pwrite64", "EROFS"), ("pread64", "EIO"), ("openat", "EMFILE"), ("openat", "ENFILE"), ("openat", "EACCES"),
    ("accept4", "EMFILE"), ("accept4", "ENFILE"), ("ftruncate", "EIO"), ("fsync", "EIO"), ("statfs", "EIO"), ("fstatfs", "EIO"),
]
WHILE_STARTING = [
    ("fdatasync", "EIO"), ("fsync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EDQUOT"),
    ("pwrite64", "EROFS"), ("pread64", "EIO"), ("ftruncate", "EIO"), ("statfs", "EIO"), ("fstatfs", "EIO"), ("fallocate", "ENOSPC"),
]
STORE_FILES = ("events.db", "events.db-wal", "witness", "reserve", "lock")


class Proof:
    def __init__(self, rig, options, summary):
        self.rig, self.options, self.summary = rig, options, summary
        self.issued = 0
        self.injected = collections.Counter()
        self.outcomes = collections.Counter()

    def prove(self):
        rig = self.rig
        rig.write_config(rig.destination_at_server("upstream"), '[[route]]\napp = "*"\ndestination = "upstream"\n')
        rig.start_server()
        rig.start_daemon()
        self.produce().finish(60)
        for call, error in WHILE_RUNNING:
            for when in self.moments(("1", "2", "5", "1+", "3+")):
                self.fail_while_running(call, error, when)
        rig.stop_daemon()
        for call, error in WHILE_STARTING:
            for when in self.moments(("1", "2", "3", "6", "1+")):
                self.fail_while_starting(call, error, when)
        self.check_the_end()
        self.check_that_it_was_a_test()

    def moments(self, all_of_them):
        return [random.choice(("1", "1+"))] if self.options.quick else all_of_them

    def produce(self):
        producer = rigs.Producer(self.rig, "steady", STEADY, EVENTS_EACH, first=self.issued, flush_each=True)
        self.issued += EVENTS_EACH
        return producer

    def inject(self, call, error, when):
        return ("strace", "-f", "-qq", "-y", "-s", "0", "-e", "signal=none", "-e", f"trace={call}", "-e",
                f"inject={call}:error={error}:when={when}", *self.only_the_store(call))

    def only_the_store(self, call):
        """Sockets and libraries keep working where the disk is meant."""
        if call in ("accept4", "openat"):
            return ()
        paths = [self.rig.state, *(self.rig.state / name for name in STORE_FILES)]
        return tuple(word for path in paths for word in ("-P", str(path)))

    def fail_while_running(self, call, error, when):
        rig = self.rig
        trace = rig.folder / "trace"
        strace = rig.spawn(*self.inject(call, error, when), "-o", trace, "-p", rig.daemon.pid)
        wait_until(lambda: self.traced() or strace.poll() is not None, 10, "strace to watch")
        producer = self.produce()
        rig.ctl("queue", "flush", "--deadline", "1", check=False)
        self.watch(producer, 2.0 if when.endswith(FOR_EVER) else 0.5)
        # Ended so, strace lets go of the daemon, and the fault is over.
        strace.send_signal(signal.SIGINT)
        strace.wait(20)
        self.judge(f"{call} {error}", when, trace, producer)

    def traced(self):
        return "TracerPid:\t0" not in self.read_status()

    def read_status(self):
        try:
            with open(f"/proc/{self.rig.daemon.pid}/status") as file:
                return file.read()
        except OSError:
            return ""

    def watch(self, producer, patience_s):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and producer.process.poll() is None and self.rig.daemon.poll() is None:
            time.sleep(0.01)

    def fail_while_starting(self, call, error, when):
        rig = self.rig
        trace = rig.folder / "trace"
        command = list(self.inject(call, error, when))
        command[1:1] = ["-D"]
        started = rig.try_to_start((*command, "-o", str(trace)), timeout_s=30)
        producer = self.produce()
        if started:
            self.watch(producer, 0.5)
            rig.daemon.terminate()
            rig.daemon.wait(30)
        self.judge(f"start: {call} {error}", when, trace, producer)
        rig.stop_daemon()

    def judge(self, name, when, trace, producer):
        """Whatever happened, from now on all must be well."""
        rig = self.rig
        hits = trace.read_text(errors="replace").count("(INJECTED)") if trace.exists() else 0
        self.injected[name] += hits
        code = rig.daemon.poll()
        if code is None:
            outcome = "went on"
        elif code in (0, STORE_UNUSABLE):
            outcome = f"ended with {code}"
            rig.start_daemon()
        else:
            raise Broken(f"{name} at {when}: the daemon ended with {code}:\n{rig.log_tail()}")
        self.outcomes[outcome if hits else "not reached"] += 1
        last = producer.finish(60)
        if last["acknowledged"] != producer.events or last["refused"] or last["lost"] or last["dropped"]:
            raise Broken(f"{name} at {when}: a producer handed in {producer.events} events and was told {last}")
        rig.check_ledger()
        ledger = rig.status()["ledger"]
        if ledger["accepted"] != self.issued:
            raise Broken(f"{name} at {when}: {self.issued} events were acknowledged, the ledger says {ledger}")
        if trace.exists():
            trace.unlink()

    def check_the_end(self):
        rig = self.rig
        rig.start_daemon()
        rig.ctl("queue", "flush", "--deadline", "5", check=False)
        rig.wait_for_the_drain()
        rig.check_ledger()
        rig.stop_daemon()
        rig.stop_server()
        rows, again = rig.arrivals()
        rigs.check_arrivals(rows, {STEADY: self.issued})
        self.summary.update(events=self.issued, sent_again=again)

    def check_that_it_was_a_test(self):
        for name, hits in sorted(self.injected.items()):
            print(f"  {hits:6} {name}")
        self.summary.update(injected=sum(self.injected.values()), kinds=sum(1 for hits in self.injected.values() if hits),
                            outcomes=dict(self.outcomes))
        for name in ("fdatasync EIO", "pwrite64 EIO", "pwrite64 ENOSPC", "pwrite64 EDQUOT", "pwrite64 EROFS", "accept4 EMFILE",
                     "start: fdatasync EIO", "start: pwrite64 ENOSPC", "start: pread64 EIO"):
            if not self.injected[name]:
                raise Untested(f"{name} was never reached")


def main():
    options = rigs.arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    refused = rigs.strace_refused()
    if refused:
        print(f"SKIPPED: failing system calls need strace: {refused}")
        return rigs.SKIPPED
    summary = {"seed": options.seed}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep, commit_delay_ms=1, bytes_max=16 << 20) as rig:
        return rigs.finish("disk_faults", summary, Proof(rig, options, summary).prove)


if __name__ == "__main__":
    sys.exit(main())
