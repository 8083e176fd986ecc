#!/usr/bin/env python3
"""Killed at any system call of a delivery, the forwarder doubles nothing at the server.

telemetryd-forward delivers two batches or more to telemetry-server, once to see which calls it makes;
then strace kills it as it enters one of them, and so on for each call between its greeting and its
end. Every time the daemon must start another that delivers the rest. It is done over the
kinds native, native over TLS, and ingest.

From the trace it is read how far the delivery was. What the server says it got again may be the batch
that was under way, if the request was whole and the outcome not yet told, and else nothing. When the
answer was there, it must be exactly that batch. In the end each event is at the server once and in
order, and both ledgers balance.

--without-kills makes the same deliveries and kills nobody: then the proof must not hold.
"""

import argparse
import collections
import contextlib
import json
import pathlib
import random
import re
import shutil
import socket
import sqlite3
import sys
import time

import rig as rigs
import trace
from rig import Broken, Untested, wait_until

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "integration" / "relay"))
import certificates  # noqa: E402

BATCH = 50
PAD_BYTES = 3000  # so that a request takes several calls
APP, INDEX = "steady", 1
PHASES = ("no lease yet", "lease half read", "lease read", "connecting", "request half sent", "request sent",
          "answer half read", "answer read", "outcome written")
# Over TLS the trace shows no requests, only that they are under way.
TLS_PHASES = ("no lease yet", "lease half read", "lease read", "connecting", "handshake", "request under way",
              "outcome written")
# Where one kind's deliveries are another's, a quick run does with one of them.
QUICK_PHASES = {"native": PHASES, "native over TLS": ("handshake", "request under way"),
                "ingest": ("request sent", "answer read")}
SERVER_MAY_HAVE_IT = ("request sent", "answer half read", "answer read", "request under way")
SERVER_HAS_IT = ("answer half read", "answer read")
TRIES_EACH = 5

CALL = re.compile(r"^(?P<thread>\d+)\s+(?P<call>\w+)\(")
ON_SOCKET = re.compile(r"^\d+\s+\w+\(\d+<(UNIX-STREAM|TCP)")
# strace says nothing more of a process that is killed than that its last call did not return.
ENDED = re.compile(r"^\d+\s+\+\+\+ (killed|exited)|= \?$", re.M)
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.I)
BATCH_SIZE = re.compile(rb"\r\nx-batch-size: (\d+)\r\n", re.I)
PREFIX = 4  # bytes of the length in front of a message of the link
LEASE, OUTCOME = 0x0A, 0x12  # first byte of such a message: the number of its field
HANDSHAKE_RECORDS = (0x14, 0x16)


class Message:
    """An HTTP message of which only the beginning need be seen."""

    def __init__(self):
        self.head, self.bytes = b"", 0

    def add(self, seen, size):
        if b"\r\n\r\n" not in self.head:
            self.head += seen
        self.bytes += size

    def number(self, header):
        found = header.search(self.head)
        return int(found[1]) if found else None

    @property
    def whole(self):
        head, found, _ = self.head.partition(b"\r\n\r\n")
        length = self.number(CONTENT_LENGTH)
        return bool(found) and length is not None and self.bytes >= len(head) + 4 + length


class Life:
    """How far a forwarder has come, from its trace."""

    def __init__(self, tls):
        self.tls = tls
        self.link = None
        self.lease_left = 0  # bytes of a lease that are not read yet
        self.lease_out = False
        self.leases = self.outcomes = 0
        self.connected = self.shook_hands = self.sent_any = False
        self.request = self.answer = Message()

    @property
    def phase(self):
        if self.lease_left:
            return "lease half read"
        if not self.lease_out:
            return "outcome written" if self.outcomes else "no lease yet"
        if self.tls and self.sent_any:
            return "request under way" if self.shook_hands else "handshake"
        if self.request.bytes:
            return self.phase_of_request()
        return "connecting" if self.connected and self.leases == 1 else "lease read"

    def phase_of_request(self):
        if self.answer.bytes:
            return "answer read" if self.answer.whole else "answer half read"
        return "request sent" if self.request.whole else "request half sent"

    @property
    def under_way(self):
        """How many events the server may have got without the daemon's knowing it."""
        if self.phase not in SERVER_MAY_HAVE_IT:
            return 0
        size = self.request.number(BATCH_SIZE)
        return BATCH if size is None else size

    def take(self, call, path, text, result):
        """One call that has returned."""
        if path.startswith("UNIX-STREAM"):
            self.on_link(call, path, trace.payload(text), result)
        elif path.startswith("TCP"):
            self.on_network(call, trace.payload(text), result)

    def on_link(self, call, path, seen, result):
        if call in trace.SENDS and result > 0:
            self.link = self.link or path  # what is sent first is the greeting
            if path == self.link and seen[PREFIX] == OUTCOME:
                self.lease_out = False
                self.outcomes += 1
        elif call in trace.RECEIVES and path == self.link and result > 0:
            # One lease at a time: a call reads one, or a piece of one.
            if not self.lease_left and seen[PREFIX] == LEASE:
                self.lease_left = PREFIX + int.from_bytes(seen[:PREFIX], "little")
                self.begin_lease()
            self.lease_left = max(0, self.lease_left - result)

    def begin_lease(self):
        self.leases += 1
        self.lease_out = True
        self.sent_any = False
        self.request, self.answer = Message(), Message()

    def on_network(self, call, seen, result):
        if call == "connect":
            self.connected = True
        elif call in trace.SENDS and result > 0:
            self.sent_any = True
            self.shook_hands = self.shook_hands or seen[0] not in HANDSHAKE_RECORDS
            self.request.add(seen, result)
        elif call in trace.RECEIVES and result > 0 and self.request.bytes:
            self.answer.add(seen, result)


def read_life(lines, tls):
    """(call, which of its kind, the phase it begins in) of each call of the first thread after the greeting."""
    life, calls = Life(tls), []
    counts = collections.Counter()
    thread = None
    for line in lines:
        begun = CALL.match(line)
        thread = thread or (begun and begun["thread"])
        if begun and begun["thread"] == thread:
            counts[begun["call"]] += 1
            if life.link:
                calls.append((begun["call"], counts[begun["call"]], life.phase))
        for _, _, call, path, _, ends, text, result in trace.steps([line] if ON_SOCKET.match(line) else []):
            if ends and result is not None:
                life.take(call, path, text, result)
            elif call == "connect" and path.startswith("TCP"):
                life.connected = True
    return life, calls


class HalvingGate(rigs.Gate):
    """Answers go through in two pieces."""

    def _pump(self, source, sink, is_request):
        if is_request:
            return super()._pump(source, sink, is_request)
        with contextlib.suppress(OSError):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(1 << 16):
                half = len(data) // 2
                sink.sendall(data[:half])
                time.sleep(0.005)
                sink.sendall(data[half:])
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return None


class Kind:
    """One rig for one kind of destination, and the forwarders killed in it."""

    def __init__(self, name, rig, points, options):
        self.name, self.rig, self.points = name, rig, points
        self.kill = not options.without_kills
        self.tls = name.endswith("TLS")
        self.phases = QUICK_PHASES[name] if options.quick else TLS_PHASES if self.tls else PHASES
        self.issued = self.kills = self.rounds = 0
        self.again = self.allowed = 0
        self.once = rig.folder / "once"
        self.trace = rig.folder / "trace"

    def begin(self):
        rig = self.rig
        rig.gate.close()
        rig.gate = rigs.Gate() if self.tls else HalvingGate()
        destination = rig.destination_at_server("upstream")
        more = ()
        if self.name == "ingest":
            destination = destination.replace('"native"', '"ingest"')
        if self.tls:
            certificates.make(rig.folder)
            destination = destination.replace("http:", "https:") + f'ca_file = "{rig.folder}/ca.pem"\n'
            more = ("--tls-cert", rig.folder / "server.pem", "--tls-key", rig.folder / "server.key")
        rig.write_config(destination, f'[[route]]\napp = "{APP}"\ndestination = "upstream"\n')
        forwarder = rig.bin / "telemetryd-forward"
        program = rig.folder / "forward"
        # The first one after `once` was written is under strace, with the words in it.
        program.write_text(f'#!/bin/sh\nif mv {self.once} {self.once}.taken 2>/dev/null; then\n'
                           f'  exec strace -f -D -q -yy -xx -s 2048 -o {self.trace} -e signal=none '
                           f'$(cat {self.once}.taken) {forwarder} "$@"\nfi\nexec {forwarder} "$@"\n')
        program.chmod(0o755)
        rig.config.write_text(rig.config.read_text().replace(f'"{forwarder}"', f'"{program}"'))
        rig.start_server(more=more)
        rig.start_daemon()

    def deliver(self, inject):
        """Two batches, the forwarder watched. Returns its trace."""
        rig = self.rig
        wait_until(lambda: not rig.forwarder_pid(), 30, "the forwarder to end")
        self.trace.unlink(missing_ok=True)
        self.once.write_text(f"-e inject={inject}" if inject else "-e trace=all")
        last = rigs.Producer(rig, APP, INDEX, 2 * BATCH, first=self.issued, frame_bytes=256 << 10,
                             pad_bytes=PAD_BYTES).finish(60)
        self.issued += 2 * BATCH
        if last["acknowledged"] != 2 * BATCH:
            raise Broken(f"{2 * BATCH} events were handed in, the producer was told {last}")
        rig.wait_for_the_drain()
        return wait_until(lambda: self.trace.exists() and ENDED.search(text := self.trace.read_text(errors="replace"))
                          and text, 30, "the trace's end").splitlines()

    def sent_again(self):
        with contextlib.closing(sqlite3.connect(f"file:{self.rig.server_database}?mode=ro", uri=True)) as database:
            return database.execute("SELECT coalesce(sum(duplicates), 0) FROM counters").fetchone()[0]

    def learn(self):
        """A life without a kill: the calls there are to be killed at."""
        self.rounds += 1
        life, calls = read_life(self.deliver(None), self.tls)
        if life.leases < 2 or life.outcomes != life.leases or life.phase != "outcome written":
            raise Untested(f"{self.name}: the trace shows {life.leases} leases and {life.outcomes} outcomes: {life.phase}")
        if self.sent_again():
            raise Broken(f"{self.name}: {self.sent_again()} events arrived twice though nobody was killed")
        return calls

    def kill_at(self, call, n):
        """Returns the phase in which the forwarder was killed; nothing when it never came there."""
        self.rounds += 1
        before = self.again
        lines = self.deliver(f"{call}:signal=KILL:when={n}" if self.kill else None)
        if any("exit_group(" in line for line in lines[-2:]):
            return None
        life, _ = read_life(lines, self.tls)
        phase, under_way = life.phase, life.under_way
        if under_way > BATCH:
            raise Broken(f"{self.name}: a request of {under_way} events, batch_events_max is {BATCH}")
        self.kills += 1
        self.points[f"{self.name}: {phase}"] += 1
        self.again = self.sent_again()
        # A server may notice late what a dead client sent, so all kills are taken together.
        self.allowed += under_way
        at = f"{self.name}, killed at its call {n} of {call} ({phase})"
        if self.again > self.allowed:
            raise Broken(f"{at}: {self.again - before} events arrived again, {self.again} in all; "
                         f"{self.allowed} could have been under way")
        if phase in SERVER_HAS_IT and self.again - before < under_way:
            raise Untested(f"{at}: the server had answered, and counted {self.again - before} of {under_way} events again")
        return phase

    def end(self):
        rig = self.rig
        rig.check_ledger()
        ledger = rig.status()["ledger"]
        if ledger["accepted"] != self.issued or ledger["delivered"] != self.issued:
            raise Broken(f"{self.issued} events were acknowledged, the drained ledger says {ledger}")
        rig.stop_daemon()
        rig.stop_server()
        rows, self.again = rig.arrivals()
        number = (lambda payload: json.loads(payload)["event"]["data"]["n"]) if self.name == "ingest" else rigs.event_number
        rigs.check_arrivals(rows, {INDEX: self.issued}, number)
        if self.again > self.allowed:
            raise Broken(f"{self.name}: {self.again} events arrived again; {self.allowed} could have been under way")
        if not self.kills:
            raise Untested(f"{self.name}: the fault never happened: no forwarder was killed in {self.rounds} deliveries")
        missing = [phase for phase in self.phases if not self.points[f"{self.name}: {phase}"]]
        if missing:
            raise Untested(f"{self.name}: no forwarder was killed at: {', '.join(missing)}")


class Proof:
    def __init__(self, options, summary):
        self.options, self.summary = options, summary
        self.points = collections.Counter()

    def prove(self):
        kinds = ["native", "native over TLS", "ingest"]
        if not shutil.which("openssl"):
            print("without TLS: the openssl program is not installed")
            kinds.remove("native over TLS")
        sums = collections.Counter()
        try:
            for name in kinds:
                self.prove_kind(name, sums)
        finally:
            for point in sorted(self.points):
                print(f"  {self.points[point]:5} {point}")
            self.summary.update(sums)

    def prove_kind(self, name, sums):
        options = self.options
        with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep, batch_events_max=BATCH,
                      commit_delay_ms=1) as rig:
            kind = Kind(name, rig, self.points, options)
            kind.begin()
            try:
                calls = kind.learn()
                (self.a_few if options.quick else self.all)(kind, calls)
                kind.end()
            finally:
                sums.update(kills=kind.kills, deliveries=kind.rounds, events=kind.issued, sent_again=kind.again)

    @staticmethod
    def all(kind, calls):
        random.shuffle(calls)
        for call, n, _ in calls:
            kind.kill_at(call, n)

    @staticmethod
    def a_few(kind, calls):
        """One of each phase: where a call is in one life it may not be in the next."""
        for phase in kind.phases:
            there = [(call, n) for call, n, begins_in in calls if begins_in == phase]
            random.shuffle(there)
            for call, n in there[:TRIES_EACH]:
                if kind.points[f"{kind.name}: {phase}"]:
                    break
                kind.kill_at(call, n)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-kills", action="store_true", help="to see that the proof can fail")
    options = rigs.arguments(parser)
    refused = rigs.strace_refused()
    if refused:
        print(f"SKIPPED: killing at a system call needs strace: {refused}")
        return rigs.SKIPPED
    summary = {"seed": options.seed}
    proof = Proof(options, summary)
    return rigs.finish("forwarder_phases", summary, proof.prove)


if __name__ == "__main__":
    sys.exit(main())
