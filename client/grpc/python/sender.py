"""Hands events to telemetryd over grpc.sock and keeps each request until it is acknowledged.

A request has a number within this sender's instance. What was not acknowledged is sent again with
the same number, so nothing is lost and nothing is stored twice, whatever dies in between.
"""

import collections
import itertools
import os
import queue
import random
import time

import grpc

import consent
import retry_info_pb2
from telemetry.v1 import event_pb2, ingest_pb2, ingest_pb2_grpc

REQUESTS_KEPT_MAX = 1000
UNANSWERED_MAX = 64  # in a stream, as docs/formats/grpc.md has it
CALL_TIMEOUT_S = 30
DELAY_MIN_S, DELAY_MAX_S = 0.1, 10

RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED,
             grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


class CollectionOff(Exception):
    """Policy or consent says no. Stop making events; what was kept may be forgotten."""


def uuid7():
    """16 bytes: 48 bits of milliseconds, then version, variant and randomness (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return value.to_bytes(16, "big")


def new_event(name):
    return event_pb2.Event(id=uuid7(), name=name, time_unix_nano=time.time_ns())


def retry_info_s(error):
    """The delay that a refusal names; None when it names none."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in retry_info_pb2.Status.FromString(value).details:
            if detail.type_url == "type.googleapis.com/google.rpc.RetryInfo":
                delay = retry_info_pb2.RetryInfo.FromString(detail.value).retry_delay
                return delay.seconds + delay.nanos / 1e9
    return None


class Sender:
    """For one thread. `patience_s` bounds how long a flush goes on without an acknowledgement.

    Raises CollectionOff when this process's user said no.
    """

    def __init__(self, socket, app, patience_s=60):
        rule = consent.why_off(app, socket)
        if rule:
            raise CollectionOff(rule)
        # A channel that lost its gateway connects again at most this late.
        channel = grpc.insecure_channel("unix:" + socket, options=[("grpc.max_reconnect_backoff_ms", 1000)])
        self.close = channel.close
        self._stub = ingest_pb2_grpc.IngestServiceStub(channel)
        self._context = event_pb2.Context(app=app, language="python", sdk="grpc-example/1")
        self._instance = os.urandom(16)
        self._numbers = itertools.count(1)
        self._kept = collections.deque()  # oldest first
        self._patience_s = patience_s
        self._failures = 0  # since the last acknowledgement
        self._give_up = 0.0
        self.resent = 0
        self.refused = []  # (number, code, message) of requests that were refused for good

    def add(self, events):
        """Makes one request of the events. False: too much is waiting; flush first."""
        if len(self._kept) >= REQUESTS_KEPT_MAX:
            return False
        self._kept.append(ingest_pb2.PublishRequest(
            events=events, instance=self._instance, number=next(self._numbers), context=self._context))
        return True

    def flush(self):
        """One call per request, each answered after it is on stable storage."""
        self._progress()
        while self._kept:
            request = self._oldest_first(self._kept[0])
            try:
                self._settle(self._stub.Publish(request, timeout=CALL_TIMEOUT_S).acknowledged)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    self._refuse(request.number, "INVALID_ARGUMENT", error.details())
                    self._settle(request.number)
                    continue
                self._wait_after(error)
                self.resent += 1

    def flush_stream(self):
        """Many requests on the way at a time; a stream that ends is opened again."""
        self._progress()
        while self._kept:
            try:
                self._stream_once()
            except grpc.RpcError as error:
                self._wait_after(error)

    def _stream_once(self):
        outgoing = queue.SimpleQueue()
        answers = self._stub.PublishStream(iter(outgoing.get, None))
        try:
            sent = 0  # of self._kept, from its beginning
            while self._kept:
                while sent < min(len(self._kept), UNANSWERED_MAX):
                    outgoing.put(self._oldest_first(self._kept[sent]))
                    sent += 1
                answer = next(answers, None)
                if answer is None:
                    return  # the gateway ended the stream; the caller opens another
                sent -= self._settle(answer.acknowledged)
                if not answer.HasField("refused"):
                    continue
                if answer.refused.code == "COLLECTION_OFF":
                    raise CollectionOff(answer.refused.message)
                if answer.refused.retryable:
                    time.sleep(answer.refused.retry_after_ms / 1000 or DELAY_MIN_S)
                    self._check_patience(answer.refused.message)
                    # Everything from that number on has to come again, which is all that is kept.
                    self.resent += sent
                    sent = 0
                else:
                    self._refuse(answer.refused.number, answer.refused.code, answer.refused.message)
        except grpc.RpcError:
            self.resent += sent
            raise
        finally:
            outgoing.put(None)

    def _oldest_first(self, request):
        request.oldest_number = self._kept[0].number
        return request

    def _settle(self, acknowledged):
        """How many requests that was the answer to."""
        settled = 0
        while self._kept and self._kept[0].number <= acknowledged:
            self._kept.popleft()
            settled += 1
        if settled:
            self._progress()
        return settled

    def _progress(self):
        self._failures = 0
        self._give_up = time.monotonic() + self._patience_s

    def _refuse(self, number, code, message):
        self.refused.append((number, code, message))

    def _check_patience(self, why):
        if time.monotonic() > self._give_up:
            raise TimeoutError(f"telemetryd took nothing for {self._patience_s} s: {why}")

    def _wait_after(self, error):
        """Returns when it is time to try again; raises when trying again is of no use."""
        if error.code() == grpc.StatusCode.PERMISSION_DENIED:
            raise CollectionOff(error.details())
        named = retry_info_s(error)
        if error.code() not in RETRYABLE and not (error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and named):
            raise error
        self._check_patience(error.details())
        backoff = random.uniform(0, min(DELAY_MAX_S, DELAY_MIN_S * 2 ** self._failures))
        self._failures += 1
        time.sleep(backoff if named is None else named)
