"""Reads what strace saw of a telemetryd and judges every acknowledgement in it.

strace stops one thread at a time, so the order of its lines is an order in which things happened: a
call began before its line's place and, unless the line says `unfinished`, ended there too.
"""

import bisect
import re
import signal
import struct

HELLO, EVENTS, ACK = 1, 2, 65
HEADER = struct.Struct("<IBBH")

BEGIN = re.compile(r"^(?P<thread>\d+)\s+(?P<call>\w+)\((?P<fd>\d+)<(?P<path>.*?)>(?P<rest>[,) ].*)$")
RESUMED = re.compile(r"^(?P<thread>\d+)\s+<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
RETURNED = re.compile(r"\) += (-?\d+)")
BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

SENDS = {"write", "writev", "sendto", "sendmsg"}
RECEIVES = {"read", "readv", "recvfrom", "recvmsg"}
SYNCS = {"fdatasync", "fsync"}
CALLS = ",".join(sorted(SENDS | RECEIVES | SYNCS | {"pwrite64"}))


def record(rig, work, more=""):
    """The lines of the trace of a daemon, and what it starts, from its start to its end, with `work` between."""
    file = rig.folder / "strace.out"
    rig.write_config(more=more)
    # -s: whole frames; -xx: bytes as hex; -y: paths and sockets beside the descriptors.
    rig.start_daemon(prefix=("strace", "-f", "-D", "-q", "-y", "-xx", "-s", "1000000", "-o", str(file),
                             "-e", "signal=none", "-e", "trace=" + CALLS), timeout_s=60)
    work(rig)
    rig.daemon.send_signal(signal.SIGTERM)
    rig.daemon.wait(60)
    return file.read_text(errors="replace").splitlines()


def plain(path):
    """-xx prints paths as hex too."""
    return bytes.fromhex(path.replace("\\x", "")).decode(errors="replace") if path.startswith("\\x") else path


def payload(text):
    """The bytes of all string arguments, as -xx prints them."""
    return b"".join(bytes.fromhex(found.replace("\\x", "")) for found in BYTES.findall(text))


def steps(lines):
    """(place, thread, call, path, begins, ends, text, result): one step per begin and end of a call."""
    waiting = {}
    for place, line in enumerate(lines):
        if found := BEGIN.match(line):
            thread, call, path, rest = found["thread"], found["call"], plain(found["path"]), found["rest"]
            if rest.endswith("<unfinished ...>"):
                waiting[thread] = (call, path, rest)
                yield place, thread, call, path, True, False, rest, None
                continue
            returned = RETURNED.search(rest)
            yield place, thread, call, path, True, True, rest, int(returned[1]) if returned else None
        elif found := RESUMED.match(line):
            call, path, rest = waiting.pop(found["thread"], (found["call"], "", ""))
            text = rest + found["rest"]
            returned = RETURNED.search(found["rest"])
            yield place, found["thread"], call, path, False, True, text, int(returned[1]) if returned else None


class Stream:
    """The frames of one direction of one connection, cut from whatever pieces the calls moved."""

    def __init__(self):
        self.rest = b""

    def take(self, data):
        self.rest += data
        while len(self.rest) >= HEADER.size:
            length, kind, _, _ = HEADER.unpack_from(self.rest)
            if len(self.rest) < HEADER.size + length:
                return
            body = self.rest[HEADER.size:HEADER.size + length]
            self.rest = self.rest[HEADER.size + length:]
            yield kind, body


class Judge:
    """An ACK may be sent only when a sync of the WAL has returned that began after the acknowledged frames
    had been received and written to the WAL."""

    def __init__(self):
        self.incoming = {}  # socket -> Stream
        self.outgoing = {}
        self.received = {}  # socket -> {number: place}
        self.latest = {}  # socket -> highest number acknowledged
        self.writes = []  # places of returned writes to the WAL
        self.syncs_begun = {}  # thread -> place
        self.syncs = []  # (began, returned)
        self.acks = 0
        self.frames = 0
        self.problems = []

    def read(self, lines):
        for place, thread, call, path, begins, ends, text, result in steps(lines):
            if path.endswith("-wal"):
                self.on_wal(place, thread, call, begins, ends, result)
            elif path.startswith(("socket:", "UNIX")):
                if call in RECEIVES and ends and result and result > 0:
                    self.on_received(place, path, payload(text)[:result])
                elif call in SENDS and begins:
                    # What is handed to the kernel counts as sent when the call begins.
                    self.on_sent(place, path, payload(text))
        return self

    def on_wal(self, place, thread, call, begins, ends, result):
        if call == "pwrite64" and ends:
            self.writes.append(place)
        if call in SYNCS and begins:
            self.syncs_begun[thread] = place
        if call in SYNCS and ends and result == 0 and thread in self.syncs_begun:
            self.syncs.append((self.syncs_begun.pop(thread), place))

    def on_received(self, place, path, data):
        stream = self.incoming.setdefault(path, Stream())
        if stream is None:
            return
        if not stream.rest and path not in self.received and not self.is_hello(data):
            self.incoming[path] = None
            return
        numbers = self.received.setdefault(path, {})
        for kind, body in stream.take(data):
            if kind == EVENTS:
                self.frames += 1
                numbers.setdefault(struct.unpack_from("<Q", body)[0], place)

    @staticmethod
    def is_hello(data):
        # The admin socket's connections speak HTTP and are none of ours.
        return len(data) > 12 and data[4] == HELLO and data[8:12] == b"TLMF"

    def on_sent(self, place, path, data):
        if path not in self.received:
            return
        for kind, body in self.outgoing.setdefault(path, Stream()).take(data):
            if kind == ACK:
                self.acks += 1
                self.on_ack(place, path, struct.unpack("<Q", body)[0])

    def on_ack(self, place, path, number):
        before = self.latest.get(path, 0)
        self.latest[path] = max(before, number)
        covered = [seen for known, seen in self.received[path].items() if before < known <= number]
        if not covered:
            if number > before:
                self.problems.append(f"line {place + 1}: frame {number} was acknowledged before it was received")
            return
        last = max(covered)
        if not self.synced_between(last, place):
            self.problems.append(f"line {place + 1}: frame {number} was acknowledged, received at line {last + 1}, "
                                 "without a sync of the WAL in between")

    def synced_between(self, received, acknowledged):
        first_write = bisect.bisect_right(self.writes, received)
        if first_write == len(self.writes):
            return False
        for began, returned in reversed(self.syncs):
            if began <= received:
                return False
            if returned < acknowledged and self.writes[first_write] < began:
                return True
        return False


class PublishJudge(Judge):
    """The same for the answers to Publish, in one trace of telemetryd and its gateway: a client that sends
    one request after the other, whose events carry publish_marker(number)."""

    def __init__(self):
        super().__init__()
        self.asked = {}  # number -> (socket, place)
        self.answered = {}  # number -> place
        self.ends = {}  # (socket, direction) -> the bytes before: what is looked for may come in two pieces

    def with_the_end_before(self, path, direction, data):
        data = self.ends.get((path, direction), b"") + data
        self.ends[path, direction] = data[-32:]
        return data

    def on_received(self, place, path, data):
        super().on_received(place, path, data)
        # The same bytes go on to the daemon later; the first to receive them is the gateway.
        number = len(self.asked) + 1
        if publish_marker(number) in self.with_the_end_before(path, "in", data):
            self.asked[number] = (path, place)

    def on_sent(self, place, path, data):
        super().on_sent(place, path, data)
        data = self.with_the_end_before(path, "out", data)
        number = len(self.answered) + 1
        if number not in self.asked or path != self.asked[number][0] or publish_answer(number) not in data:
            return
        self.answered[number] = place
        if not self.synced_between(self.asked[number][1], place):
            self.problems.append(f"line {place + 1}: Publish {number} was answered, asked at line "
                                 f"{self.asked[number][1] + 1}, without a sync of the WAL in between")


def publish_marker(number):
    return f"publish-{number:04}".encode()


def publish_answer(number):
    """PublishResponse.acknowledged behind gRPC's five bytes; `number` fits one."""
    if not 0 < number < 128:
        raise ValueError(number)
    return bytes([0, 0, 0, 0, 2, 0x08, number])
