#!/usr/bin/env python3
"""Killed at a system call of the store, and again during the recovery, the daemon keeps its promises.

strace kills the real daemon as it enters its n-th call of one kind, for every n in a life of it:
start, commits with their acknowledgements, deliveries, an erasure, an orderly end; and in the same
way while it makes a new store, brings an old one to this format, and evicts. What the call would
have done is not done, all before it is: that is every step between writing, syncing, acknowledging
and removing. Most of the starts after such a crash are killed the same way once more.

In the end every event must be at the server exactly once and in order, erased ones excepted, and
all ledgers must agree.
"""

import argparse
import collections
import contextlib
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import rig as rigs
from rig import Broken, Untested, wait_until

# Writing, syncing, removing; telling a client.
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "rename", "sendto")
BEGUN = re.compile(r"^(?P<thread>\d+)\s+(?P<call>\w+)\((?:(?P<fd>\d+)<(?P<path>[^>]*)>|\"(?P<name>[^\"]*)\")")

RESUMED = re.compile(r"^(?P<thread>\d+)\s+<\.\.\. \w+ resumed>.*= (?P<result>\S+)")

COMMITS = 110  # above any count at which a broken store might go wrong only now and then
COMMITS_EACH = 12
RARE = 10
ERASED, STEADY = 90, 1
FORMAT_1 = """ALTER TABLE events DROP COLUMN instance; ALTER TABLE events DROP COLUMN last_frame;
DELETE FROM meta WHERE key='booked_up_to'; UPDATE events SET crc = crc & 4294967295; PRAGMA user_version=1"""


def file_of(path):
    if path.startswith(("socket:", "UNIX")):
        return "client"
    name = pathlib.Path(path).name
    return {"state": "folder"}.get(name, name)


def call_without_an_end(lines):
    """The last call that did not return."""
    last, pending = None, {}
    for line in lines:
        if found := BEGUN.match(line):
            if line.endswith("= ?"):
                last = found
            elif line.endswith("<unfinished ...>"):
                pending[found["thread"]] = found
        elif found := RESUMED.match(line):
            begun = pending.pop(found["thread"], None)
            if found["result"] == "?" and begun:
                last = begun
    return last or next(iter(pending.values()), None)


class World:
    """One daemon that is killed over and over, and the crash points that were hit."""

    def __init__(self, rig, points):
        self.rig, self.points = rig, points
        self.issued = collections.Counter()
        self.producers = []
        self.activity = ""
        self.trace = None

    # The daemon under strace.

    def strace(self, inject):
        self.trace = self.rig.folder / f"strace-{self.rig.starts}"
        return ("strace", "-f", "-D", "-q", "-y", "-s", "0", "-o", str(self.trace), "-e", "signal=none",
                "-e", "trace=" + ",".join(CALLS), *(["-e", "inject=" + inject] if inject else []))

    def begin(self, activity, inject):
        """False when the crash came before it was ready."""
        self.activity = activity
        return self.rig.try_to_start(self.strace(inject), timeout_s=60)

    @property
    def dead(self):
        return self.rig.daemon.poll() is not None

    def note_crash(self, prefix=""):
        """What it was killed at, from the end of the trace."""
        if self.rig.daemon.returncode != -signal.SIGKILL:
            raise Broken(f"the daemon ended by itself with {self.rig.daemon.returncode}:\n{self.rig.log_tail()}")
        lines = self.trace_lines()
        last = call_without_an_end(lines)
        if last is None:
            raise Untested("the trace does not say where the daemon was killed: " + " / ".join(lines[-3:]))
        where = file_of(last["path"] or last["name"] or "")
        self.points[f"{prefix}{self.activity}:{last['call']}:{where}"] += 1

    def trace_lines(self):
        """Until the daemon's end: strace goes on writing for a moment, and longer when the forwarder outlives it."""
        ended = re.compile(rf"^{self.rig.daemon.pid}\s+\+\+\+ (killed|exited)|= \?$", re.M)
        text = wait_until(lambda: (text := self.trace.read_text(errors="replace")) and ended.search(text) and text, 10,
                          "the trace's end")
        self.trace.unlink()
        return text.splitlines()

    # What happens in it.

    def produce(self, index, app, events, **how):
        producer = rigs.Producer(self.rig, app, index, events, first=self.issued[index], **how)
        self.issued[index] += events
        self.producers.append(producer)
        return producer

    def wait_for(self, process, timeout_s=60):
        """Until it has ended or the daemon has."""
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and not self.dead:
            if time.monotonic() > deadline:
                raise Broken(f"{' '.join(map(str, process.args[:3]))} did not end in {timeout_s} s")
            time.sleep(0.002)

    def ask(self, *words):
        process = self.rig.spawn(self.rig.bin / "telemetryctl", "--socket", self.rig.admin_socket, *words,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for(process)
        process.kill()
        process.wait()

    def end(self):
        self.activity = "close"
        self.rig.daemon.terminate()
        self.rig.daemon.wait(60)

    def recover(self, second, prefix="recovery of "):
        """Killed once more while it recovers, if `second` says at what, then for good."""
        if second and not self.begin(self.activity, second):
            self.note_crash(prefix)
        elif second:
            self.end_plainly()
        self.rig.start_daemon(timeout_s=60)

    def end_plainly(self):
        self.rig.daemon.terminate()
        code = self.rig.daemon.wait(60)
        if code == -signal.SIGKILL:
            self.note_crash("recovery of ")
        elif code != 0:
            raise Broken(f"the daemon stopped with exit code {code}:\n{self.rig.log_tail()}")

    def settle_accounts(self):
        """Every producer is told that all of it is stored, and the ledger says so too."""
        for producer in self.producers:
            last = producer.finish(60)
            if last["acknowledged"] != producer.events or last["refused"] or last["lost"] or last["dropped"]:
                raise Broken(f"{producer.name} handed in {producer.events} events and was told {last}")
        self.producers.clear()
        self.rig.check_ledger()
        ledger = self.rig.status()["ledger"]
        if ledger["accepted"] != sum(self.issued.values()):
            raise Broken(f"{sum(self.issued.values())} events were acknowledged, the ledger says {ledger}")
        return ledger


class Proof:
    def __init__(self, options, summary):
        self.options, self.summary = options, summary
        self.points = collections.Counter()
        self.rounds = self.crashes = 0

    def rig(self, **how):
        return rigs.Rig(self.options.build, telemetryd=self.options.telemetryd, keep=self.options.keep, commit_delay_ms=1,
                        **how)

    def prove(self):
        try:
            self.lives()
            self.births()
            self.upgrades()
            self.evictions()
        finally:
            second = sum(count for name, count in self.points.items() if name.startswith("recovery"))
            self.crashes = sum(self.points.values())
            self.summary.update(crashes=self.crashes, during_recovery=second, places=len(self.points))
        self.check_that_it_was_a_test()

    def check_that_it_was_a_test(self):
        for name in sorted(self.points):
            print(f"  {self.points[name]:5} {name}")
        needed = []
        if not self.options.quick and self.options.share >= 1:
            needed += ["commit:pwrite64:events.db-wal", "commit:fdatasync:events.db-wal", "commit:sendto:client",
                       "settlement:fdatasync:events.db-wal", "erasure:fdatasync:events.db-wal", "close:pwrite64:events.db",
                       "close:fdatasync:witness", "creation:unlink:events.db-journal", "migration:fdatasync:events.db-wal",
                       "eviction:pwrite64:events.db-wal"]
        for name in needed:
            if not self.points[name]:
                raise Untested(f"no crash at {name}")
        for activity in ("commit:", "creation:", "migration:", "recovery of "):
            if not any(name.startswith(activity) for name in self.points):
                raise Untested(f"no crash at any {activity}")

    def pick(self, counts, share, quick):
        """(call, n) to be killed at: all of them, or a few of each."""
        points = [(call, n) for call, most in counts.items() for n in range(1, most + 1)]
        random.shuffle(points)
        if not self.options.quick:
            # Of what comes seldom, all.
            return [point for place, point in enumerate(points) if place < len(points) * share or counts[point[0]] <= RARE]
        few = collections.Counter()
        picked = []
        for call, n in points:
            few[call] += 1
            if few[call] <= quick:
                picked.append((call, n))
        return picked

    def second(self):
        """For most recoveries: one of the first calls of a start."""
        if random.random() < 0.2:
            return None
        call = random.choice(("pwrite64", "pwrite64", "fdatasync"))
        return f"{call}:signal=KILL:when={random.randint(1, 6)}"

    @staticmethod
    def count_calls(lines):
        """How many calls of each kind the busiest thread made: strace counts by thread."""
        by_thread = collections.Counter(found.group("call", "thread") for line in lines if (found := BEGUN.match(line)))
        counts = {}
        for (call, _), count in by_thread.items():
            counts[call] = max(count, counts.get(call, 0))
        return counts

    # A whole life: start, commit, settlement, erasure, close.

    def lives(self):
        with self.rig(bytes_max=16 << 20) as rig:
            world = World(rig, self.points)
            rig.write_config(rig.destination_at_server("upstream"), '[[route]]\napp = "*"\ndestination = "upstream"\n')
            rig.start_server()
            for call, n in self.pick(self.first_life(world), self.options_share(1.0), 4):
                self.rounds += 1
                if self.live(world, f"{call}:signal=KILL:when={n}", COMMITS_EACH):
                    world.note_crash()
                self.recover_life(world)
            # As late as a broken store would need to lose count: the last frame stored comes again.
            for n in range(COMMITS - 15, COMMITS - 9):
                self.rounds += 1
                if self.live(world, f"sendto:signal=KILL:when={n}", COMMITS):
                    world.note_crash()
                self.recover_life(world)
            self.check_the_end(world)

    def first_life(self, world):
        """Unkilled and long, to see what there is to be killed at. Returns how many calls of each kind."""
        rig = world.rig
        if self.live(world, None, COMMITS) or rig.daemon.returncode != 0:
            raise Broken(f"the daemon ended by itself with {rig.daemon.returncode}:\n{rig.log_tail()}")
        lines = world.trace_lines()
        syncs = sum(1 for line in lines if (found := BEGUN.match(line)) and found["call"] == "fdatasync"
                    and (found["path"] or "").endswith("-wal"))
        if syncs < COMMITS:
            raise Broken(f"{COMMITS} events were acknowledged one by one with {syncs} syncs of the WAL")
        self.recover_life(world, crashed=False)
        # The lives to come are shorter.
        self.live(world, None, COMMITS_EACH)
        counts = self.count_calls(world.trace_lines())
        self.recover_life(world, crashed=False)
        return counts

    def live(self, world, inject, commits):
        """True when it was killed on the way."""
        rig = world.rig
        rig.gate.set_mode("open")
        if not world.begin("start", inject):
            return True
        world.activity = "commit"
        world.wait_for(world.produce(STEADY, "steady", commits, flush_each=True).process)
        if world.dead:
            return True
        world.activity = "settlement"
        world.ask("queue", "flush", "--deadline", "3")
        if world.dead:
            return True
        world.activity = "erasure"
        rig.gate.set_mode("dead")
        world.wait_for(world.produce(ERASED, "erased", 3, flush_each=True).process)
        world.ask("consent", "disable", "--app", "erased")
        if world.dead:
            return True
        world.end()
        return rig.daemon.returncode == -signal.SIGKILL

    def recover_life(self, world, crashed=True):
        world.recover(self.second() if crashed else None)
        world.rig.ctl("consent", "enable", "--app", "erased")
        world.settle_accounts()
        world.rig.stop_daemon()

    def check_the_end(self, world):
        rig = world.rig
        rig.start_daemon()
        rig.gate.set_mode("open")
        rig.ctl("queue", "flush", "--deadline", "5", check=False)
        rig.wait_for_the_drain()
        ledger = world.settle_accounts()
        rig.stop_daemon()
        rig.stop_server()
        rows, again = rig.arrivals()
        erased = [row for row in rows if row[0][7] == ERASED]
        rigs.check_arrivals([row for row in rows if row[0][7] != ERASED], {STEADY: world.issued[STEADY]})
        if len({row[0] for row in erased}) != len(erased) or len(erased) + ledger["erased"] != world.issued[ERASED]:
            raise Broken(f"of {world.issued[ERASED]} events {ledger['erased']} were erased and {len(erased)} arrived")
        if not ledger["erased"]:
            raise Untested("nothing was erased")
        self.summary.update(events=sum(world.issued.values()), erased=ledger["erased"], sent_again=again)

    # Short scenes, each from the same beginning.

    def births(self):
        with self.rig(bytes_max=8 << 20) as rig:
            rig.write_config()

            def begin(_world):
                shutil.rmtree(rig.state, ignore_errors=True)

            self.scenes(rig, "creation", begin, 0, self.options_share(0.5), 3)

    def upgrades(self):
        with self.rig(bytes_max=8 << 20) as rig:
            rig.write_config()
            world = World(rig, self.points)
            rig.start_daemon()
            world.produce(STEADY, "steady", 30, flush_each=True)
            world.settle_accounts()
            rig.stop_daemon()
            with contextlib.closing(sqlite3.connect(rig.state / "events.db")) as database:
                database.executescript(FORMAT_1)
            kept = rig.folder / "format-1"
            shutil.copytree(rig.state, kept)

            def begin(_world):
                shutil.rmtree(rig.state)
                shutil.copytree(kept, rig.state)

            self.scenes(rig, "migration", begin, 30, self.options_share(1.0), 3)

    def options_share(self, share):
        return share * self.options.share

    def scenes(self, rig, name, begin, already, share, quick):
        """Each starts from what `begin` makes, where `already` events are stored."""
        world = World(rig, self.points)
        begin(world)
        if not world.begin(name, None):
            raise Broken(f"the daemon ended with {rig.daemon.returncode}:\n{rig.log_tail()}")
        ready = self.count_calls(world.trace.read_text(errors="replace").splitlines())
        rig.stop_daemon()
        for call, n in self.pick({call: ready.get(call, 0) for call in CALLS}, share, quick):
            begin(world)
            self.rounds += 1
            world.issued = collections.Counter({STEADY: already})
            if not world.begin(name, f"{call}:signal=KILL:when={n}"):
                world.note_crash()
                world.recover(self.second())
            world.produce(STEADY, "steady", 2, flush_each=True)
            ledger = world.settle_accounts()
            if ledger["queued"] != already + 2:
                raise Broken(f"{already + 2} events were acknowledged, the ledger says {ledger}")
            rig.daemon.kill()
            rig.daemon.wait()

    def evictions(self):
        with self.rig(bytes_max=8 << 20) as rig:
            rig.write_config()
            world = World(rig, self.points)
            if not world.begin("start", None):
                raise Broken(f"the daemon ended with {rig.daemon.returncode}:\n{rig.log_tail()}")
            world.produce(STEADY, "steady", 120_000)
            ledger = world.settle_accounts()
            if not ledger["evicted"]["total"]:
                raise Untested("the store did not become full")
            rig.stop_daemon()
            for call, n in self.pick({"pwrite64": 60, "fdatasync": 40}, self.options_share(0.5), 2):
                self.rounds += 1
                if not world.begin("start", f"{call}:signal=KILL:when={n + 5}"):
                    world.note_crash()
                else:
                    world.activity = "eviction"
                    world.wait_for(world.produce(STEADY, "steady", 8000).process)
                    if not world.dead:
                        world.end()
                    if world.rig.daemon.returncode == -signal.SIGKILL:
                        world.note_crash()
                world.recover(self.second())
                ledger = world.settle_accounts()
                if ledger["queued"] + ledger["evicted"]["total"] != ledger["accepted"]:
                    raise Broken(f"events are neither queued nor evicted: {ledger}")
                rig.stop_daemon()
            self.summary.update(evicted=ledger["evicted"]["total"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the crash points; 0.5 takes every other one")
    options = rigs.arguments(parser)
    refused = rigs.strace_refused()
    if refused:
        print(f"SKIPPED: crash points need strace: {refused}")
        return rigs.SKIPPED
    summary = {"seed": options.seed}
    proof = Proof(options, summary)
    return rigs.finish("crash_points", summary, proof.prove)


if __name__ == "__main__":
    sys.exit(main())
