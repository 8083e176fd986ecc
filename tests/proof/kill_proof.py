#!/usr/bin/env python3
"""Nothing acknowledged is lost, repeated or reordered when processes are killed.

Importers and producers hand in numbered events while the upstream is dead or never answers, and the
daemon is killed at random moments. Then the real server listens, and while the queue drains both
daemon and forwarder are killed in the middle of deliveries. In the end every event must be at the
server exactly once, in order, and all ledgers must agree.

Each kill is preceded by SIGSTOP, so that what the kill hit can be read from outside while nothing
moves: requests that the upstream has not answered, and frames that clients must send again
afterwards. Only kills that were seen to hit something are counted as such.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import threading
import time

import rig as rigs
from rig import Broken, Untested, wait_until

TOP_UP_EVENTS = 5000
TOP_UPS_MAX = 50


class Plan:
    def __init__(self, options):
        self.events = options.events or (30_000 if options.quick else 200_000)
        self.kills = options.kills or (6 if options.quick else 20)
        # Of those kills at least so many must have hit frames on their way and a lease out.
        self.kills_unacked = self.kills // 2
        self.kills_leased = self.kills // 4
        self.drain_kills = max(2, self.kills // 4)
        self.forwarder_kills = options.forwarder_kills or max(3, self.kills // 2)
        self.importers = 2 if options.quick else 3
        self.chunk = 1000 if options.quick else 5000
        self.pause_s = 0.5  # mean time between kills
        self.patience_s = 40 if options.quick else 300  # for clients, once the killing has ended


class Importer(threading.Thread):
    """telemetryctl imports of one app, one file after the other, each repeated until it succeeds."""

    def __init__(self, rig, index, events, plan):
        super().__init__(daemon=True)
        self.rig, self.index, self.app = rig, index, f"imported-{index}"
        self.events = events
        self.repeats = 0
        self.problem = ""
        self.interval_s = plan.kills * plan.pause_s * plan.chunk / max(events, 1)
        self.files = []
        for first in range(0, events, plan.chunk):
            file = rig.folder / f"import-{index}-{first}.jsonl"
            with open(file, "w") as out:
                for number in range(first, min(first + plan.chunk, events)):
                    out.write(json.dumps({"id": rigs.id_text(rigs.event_id(index, number)), "name": "proof",
                                          "time": rigs.ID_EPOCH_MS / 1000 + number / 1000,
                                          "attributes": {"n": number}}) + "\n")
            self.files.append(file)

    def run(self):
        begun = time.monotonic()
        for position, file in enumerate(self.files):
            time.sleep(max(0.0, begun + position * self.interval_s - time.monotonic()))
            for _ in range(200):
                try:
                    result = self.rig.ctl("event", "import", "--app", self.app, file, check=False, timeout_s=120)
                except subprocess.SubprocessError as problem:
                    self.problem = f"import of {self.app}: {problem}"
                    return
                if result.returncode == 0:
                    break
                self.repeats += 1
                if result.returncode == 2:
                    self.problem = f"import of {self.app}: {result.stderr.strip()}"
                    return
                time.sleep(0.05)
            else:
                self.problem = f"import of {self.app} failed 200 times: {result.stderr.strip()}"
                return
            file.unlink()


class KillProof:
    def __init__(self, rig, plan, summary):
        self.rig, self.plan, self.summary = rig, plan, summary
        self.importers = []
        self.producers = []
        self.top_ups = 0
        self.wanted = {}  # producer index -> number of events, numbered from 0
        self.resent_before = None
        self.kills = self.kills_unacked = self.kills_leased = 0
        self.drain_kills = self.forwarder_kills = 0
        self.slowest_restart_s = 0.0

    def prove(self):
        self.begin()
        self.kill_while_the_upstream_is_dead()
        self.check_before_the_drain()
        self.kill_while_draining()
        self.rig.stop_daemon()
        self.rig.stop_server()
        self.check_the_server()

    def begin(self):
        plan, rig = self.plan, self.rig
        rig.write_config(rig.destination_at_server("upstream"), '[[route]]\napp = "*"\ndestination = "upstream"\n')
        rig.start_daemon()
        half = plan.events // 2
        share = half // plan.importers
        for index in range(plan.importers):
            self.importers.append(Importer(rig, index, share, plan))
            self.wanted[index] = share
        rest = plan.events - share * plan.importers
        # Two producers share an app, two have one each.
        for position, app in enumerate(("shared", "shared", "alone", "slow")):
            index = 100 + position
            events = rest // 4 + (rest % 4 if position == 0 else 0)
            self.start_producer(app, index, events, rate=max(1, int(events / (plan.kills * plan.pause_s))))
        for importer in self.importers:
            importer.start()

    def start_producer(self, app, index, events, rate=0):
        self.wanted[index] = events
        self.producers.append(rigs.Producer(self.rig, app, index, events, rate=rate))

    def top_up(self, rate=0):
        """More events, when they run out before the kills do."""
        self.top_ups += 1
        if self.top_ups > TOP_UPS_MAX:
            raise Untested(f"not enough kills hit something: {self.counts()}")
        self.start_producer("top-up", 200 + self.top_ups, TOP_UP_EVENTS, rate)

    def running(self):
        return [producer for producer in self.producers if producer.process.poll() is None]

    def counts(self):
        return (f"{self.kills} kills, {self.kills_unacked} with unacknowledged frames, {self.kills_leased} with a "
                f"lease out; while draining {self.drain_kills} and {self.forwarder_kills} of the forwarder")

    def kill_daemon(self):
        """Returns whether a lease was out."""
        rig = self.rig
        daemon = rig.daemon
        if daemon.poll() is not None:
            raise Broken(f"the daemon ended by itself with {daemon.returncode}:\n{rig.log_tail()}")
        os.kill(daemon.pid, signal.SIGSTOP)
        # Stopped, it can answer nothing more: what the upstream has not answered now, never was.
        leased = rig.gate.requests_out() > 0
        daemon.kill()
        daemon.wait()
        begun = time.monotonic()
        rig.start_daemon()
        self.slowest_restart_s = max(self.slowest_restart_s, time.monotonic() - begun)
        return leased

    def count_resent(self):
        """Did clients send frames again since the kill before? Then that kill hit frames in flight."""
        resent = sum(producer.counters()["frames_resent"] for producer in self.producers)
        if self.resent_before is not None and resent > self.resent_before:
            self.kills_unacked += 1
        self.resent_before = resent

    def kill_while_the_upstream_is_dead(self):
        plan = self.plan
        while (self.kills < plan.kills or self.kills_unacked < plan.kills_unacked
               or self.kills_leased < plan.kills_leased):
            if self.kills >= 4 * plan.kills:
                raise Untested(f"too few kills hit something: {self.counts()}")
            if not self.running():
                self.top_up(rate=TOP_UP_EVENTS)
            self.rig.gate.set_mode("stalled" if random.random() < 0.75 else "dead")
            time.sleep(random.uniform(0.02, 2 * plan.pause_s))
            self.count_resent()
            self.kills_leased += self.kill_daemon()
            self.kills += 1
        self.rig.gate.set_mode("dead")
        for importer in self.importers:
            importer.join(self.plan.patience_s)
            if importer.is_alive() or importer.problem:
                raise Broken(importer.problem or f"imports of {importer.app} do not end")
        self.finish_producers()
        self.summary.update(kills=self.kills, kills_unacked=self.kills_unacked, kills_leased=self.kills_leased,
                            import_repeats=sum(importer.repeats for importer in self.importers))

    def finish_producers(self):
        for producer in self.producers:
            if producer.shared is None:
                continue
            last = producer.finish(self.plan.patience_s)
            producer.shared = None
            if last["acknowledged"] != producer.events or last["accepted"] != producer.events:
                raise Broken(f"{producer.name} handed in {producer.events} events and was told {last}")
            if last["refused"] or last["lost"] or last["dropped"]:
                raise Broken(f"{producer.name} lost events: {last}")

    def total(self):
        return sum(self.wanted.values())

    def check_before_the_drain(self):
        self.rig.check_ledger()
        ledger = self.rig.status()["ledger"]
        if ledger["accepted"] != self.total() or ledger["queued"] != self.total():
            raise Broken(f"{self.total()} events were acknowledged, the ledger says {ledger}")

    def kill_while_draining(self):
        rig, plan = self.rig, self.plan
        rig.start_server()
        while self.drain_kills < plan.drain_kills or self.forwarder_kills < plan.forwarder_kills:
            if rig.status()["ledger"]["queued"] == 0:
                self.top_up()
            if self.forwarder_kills < plan.forwarder_kills:
                self.forwarder_kills += self.kill_forwarder()
            if self.drain_kills < plan.drain_kills and random.random() < 0.5:
                time.sleep(random.uniform(0, 0.1))
                self.drain_kills += self.kill_daemon()
        self.finish_producers()
        # Only to end a backoff: whether it answers in time is not what is proved here.
        rig.ctl("queue", "flush", "--deadline", "5", check=False)
        rig.wait_for_the_drain()
        self.rig.check_ledger()
        ledger = rig.status()["ledger"]
        if ledger["accepted"] != self.total() or ledger["delivered"] != self.total():
            raise Broken(f"{self.total()} events were acknowledged, the drained ledger says {ledger}")
        self.summary.update(drain_kills=self.drain_kills, forwarder_kills=self.forwarder_kills, events=self.total(),
                            restart_s_max=f"{self.slowest_restart_s:.2f}")

    def kill_forwarder(self):
        """True when the kill hit a delivery: stopped, its lease was still out."""
        rig = self.rig
        deadline = time.monotonic() + 5
        while not (pid := rig.forwarder_pid()) and time.monotonic() < deadline:
            time.sleep(0.001)
        if not pid:
            return False
        time.sleep(random.uniform(0, 0.03))
        # The daemon may end an idle forwarder at any time: then this was no kill in the middle.
        try:
            os.kill(pid, signal.SIGSTOP)
            # Its outcome may be on its way; what is out after a while will stay out.
            time.sleep(0.01)
            hit = rig.destination().get("state") == "sending"
            os.kill(pid, signal.SIGKILL if hit else signal.SIGCONT)
        except ProcessLookupError:
            return False
        return hit

    def check_the_server(self):
        rig = self.rig
        rows, duplicates = rig.arrivals()
        rigs.check_arrivals(rows, self.wanted)
        # Kills while no server listened can have doubled nothing, so they earn no allowance.
        kills_that_matter = self.drain_kills + self.forwarder_kills
        allowed = kills_that_matter * rig.batch_events_max
        self.summary.update(duplicates=duplicates,
                            batches_per_drain_kill=f"{duplicates / rig.batch_events_max / kills_that_matter:.2f}")
        if duplicates > allowed:
            raise Broken(f"{duplicates} events arrived twice; {allowed} could have been under way")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, help="default 200000, quick 30000")
    parser.add_argument("--kills", type=int, help="of the daemon before the drain; default 20, quick 6")
    parser.add_argument("--forwarder-kills", type=int, help="default half of the kills")
    options = rigs.arguments(parser)
    summary = {"seed": options.seed}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep) as rig:
        proof = KillProof(rig, Plan(options), summary)
        return rigs.finish("kill_proof", summary, proof.prove)


if __name__ == "__main__":
    raise SystemExit(main())
