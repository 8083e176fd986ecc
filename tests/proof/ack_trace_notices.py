#!/usr/bin/env python3
"""The judge of acknowledgement traces accepts a sound trace and notices every way to break it."""

import struct
import sys
import unittest

import trace

SOCKET = "socket:[77]"


def quoted(data):
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def frame(kind, body):
    return trace.HEADER.pack(len(body), kind, 0, 0) + body


def received(data):
    return f"10 read(12<{quoted(SOCKET.encode())[1:-1]}>, {quoted(data)}, 65536) = {len(data)}"


HELLO = received(frame(trace.HELLO, b"TLMF\x01\x00\x00\x00"))
EVENTS = received(frame(trace.EVENTS, struct.pack("<QIBBH", 1, 1, 0, 0, 0) + b"event"))
WRITE = "11 pwrite64(7</s/events.db-wal>, \"\\x00\", 1, 0) = 1"
SYNC = "11 fdatasync(7</s/events.db-wal>) = 0"
SYNC_BEGINS = "11 fdatasync(7</s/events.db-wal> <unfinished ...>"
SYNC_RETURNS = "11 <... fdatasync resumed>) = 0"
ACK = f"11 sendto(13<{SOCKET}>, {quoted(frame(trace.ACK, struct.pack('<Q', 1)))}, 16, MSG_NOSIGNAL, NULL, 0) = 16"


def problems(*lines):
    judge = trace.Judge().read(lines)
    assert judge.acks == 1, judge.acks
    return judge.problems


class AckTrace(unittest.TestCase):
    def test_accepts_an_acknowledgement_after_the_sync(self):
        self.assertEqual(problems(HELLO, EVENTS, WRITE, SYNC, ACK), [])

    def test_accepts_a_sync_that_other_threads_interrupt(self):
        self.assertEqual(problems(HELLO, EVENTS, WRITE, SYNC_BEGINS, received(b"\x00"), SYNC_RETURNS, ACK), [])

    def test_notices_an_acknowledgement_without_a_sync(self):
        self.assertEqual(len(problems(HELLO, EVENTS, WRITE, ACK)), 1)

    def test_notices_an_acknowledgement_before_the_sync_has_returned(self):
        self.assertEqual(len(problems(HELLO, EVENTS, WRITE, SYNC_BEGINS, ACK, SYNC_RETURNS)), 1)

    def test_notices_a_sync_that_began_before_the_frame_came(self):
        self.assertEqual(len(problems(HELLO, WRITE, SYNC_BEGINS, EVENTS, SYNC_RETURNS, ACK)), 1)

    def test_notices_a_sync_of_nothing(self):
        self.assertEqual(len(problems(HELLO, EVENTS, SYNC, ACK)), 1)

    def test_notices_a_failed_sync(self):
        self.assertEqual(len(problems(HELLO, EVENTS, WRITE, SYNC.replace("= 0", "= -1 EIO"), ACK)), 1)

    def test_notices_an_acknowledgement_of_nothing(self):
        self.assertEqual(len(problems(HELLO, WRITE, SYNC, ACK)), 1)


CLIENT = "socket:[55]"
ASKED = (f"20 recvmsg(9<{CLIENT}>, {{msg_iov=[{{iov_base={quoted(b'frame' + trace.publish_marker(1))}, iov_len=99}}]}}, 0)"
         f" = {5 + len(trace.publish_marker(1))}")
ANSWER = f"20 sendmsg(9<{CLIENT}>, {{msg_iov=[{{iov_base={quoted(b'head' + trace.publish_answer(1))}, iov_len=11}}]}}, 0) = 11"


def publish_problems(*lines):
    judge = trace.PublishJudge().read(lines)
    assert judge.answered.keys() == {1}, judge.answered
    return judge.problems


class PublishTrace(unittest.TestCase):
    def test_accepts_an_answer_after_the_sync(self):
        self.assertEqual(publish_problems(ASKED, HELLO, EVENTS, WRITE, SYNC, ACK, ANSWER), [])

    def test_accepts_a_request_that_came_in_two_pieces(self):
        head, tail = b"frame" + trace.publish_marker(1)[:6], trace.publish_marker(1)[6:]
        pieces = [f"20 recvmsg(9<{CLIENT}>, {{msg_iov=[{{iov_base={quoted(piece)}, iov_len=99}}]}}, 0) = {len(piece)}"
                  for piece in (head, tail)]
        self.assertEqual(publish_problems(*pieces, HELLO, EVENTS, WRITE, SYNC, ACK, ANSWER), [])

    def test_notices_an_answer_without_a_sync(self):
        self.assertEqual(len(publish_problems(ASKED, WRITE, ANSWER)), 1)

    def test_notices_an_answer_before_the_sync_has_returned(self):
        self.assertEqual(len(publish_problems(ASKED, WRITE, SYNC_BEGINS, ANSWER, SYNC_RETURNS)), 1)

    def test_notices_a_sync_from_before_the_request(self):
        self.assertEqual(len(publish_problems(WRITE, SYNC, ASKED, ANSWER)), 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
