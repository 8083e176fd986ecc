"""A real telemetryd, a real gateway on a listening socket that outlives it, and clients."""

import http.client
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import grpc

PATIENCE = 60  # seconds, for broken code only

PUBLISH = "/telemetry.v1.IngestService/Publish"
STREAM = "/telemetry.v1.IngestService/PublishStream"


# -- protobuf by hand: the tests send what no generated code would ----------------------------------

def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def text(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def number(field, value):
    return varint(field << 3) + varint(value)


def event(name=b"e", more=b""):
    event_id = b"\x01\x8b\xcf\xe5\x68\x00\x70\x00\x80" + os.urandom(7)
    return text(1, event_id) + text(3, name) + b"\x29" + (1700000000000000000).to_bytes(8, "little") + more


def request(events, instance=b"", at=0, oldest=0, app=b"tool"):
    message = b"".join(text(1, each) for each in events)
    message += text(2, instance) if instance else b""
    message += number(3, at) if at else b""
    message += number(4, oldest) if oldest else b""
    return message + (text(5, text(1, app)) if app else b"")


def fields(message):
    """field number -> values, for the few shapes the gateway sends."""
    found, at = {}, 0

    def read_varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = read_varint()
        if tag & 7 == 2:
            size = read_varint()
            value = message[at:at + size]
            at += size
        else:
            value = read_varint()
        found.setdefault(tag >> 3, []).append(value)
    return found


def acknowledged(response):
    return fields(response).get(1, [0])[-1]


def same(message):
    return message


def retry_info(error):
    """The delay in milliseconds that RetryInfo names, or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            details = fields(fields(value)[3][0])
            assert details[1] == [b"type.googleapis.com/google.rpc.RetryInfo"], details
            delay = fields(fields(details[2][0])[1][0])
            return delay.get(1, [0])[0] * 1000 + delay.get(2, [0])[0] // 1_000_000
    return None


class Client:
    def __init__(self, target, credentials=None, options=()):
        if credentials:
            self.channel = grpc.secure_channel(target, credentials, options)
        else:
            self.channel = grpc.insecure_channel(target, options)
        self._publish = self.channel.unary_unary(PUBLISH, same, same)
        self._stream = self.channel.stream_stream(STREAM, same, same)

    def publish(self, message, metadata=(), timeout=PATIENCE):
        return self._publish(message, timeout=timeout, metadata=metadata)

    def stream(self, messages, metadata=()):
        return self._stream(messages, timeout=PATIENCE, metadata=metadata)

    def unary(self, method, message):
        return self.channel.unary_unary(method, same, same)(message, timeout=PATIENCE)

    def bidirectional(self, method, messages):
        return self.channel.stream_stream(method, same, same)(messages, timeout=PATIENCE)

    def close(self):
        self.channel.close()


# -- processes ----------------------------------------------------------------------------------------

class AdminConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class Rig:
    """One home with a daemon; gateways come and go on the test's own listening socket."""

    def __init__(self, gateway_keys="", ingest_keys=""):
        self.home = tempfile.mkdtemp(prefix="tlm-")
        os.chmod(self.home, 0o755)
        self.config = os.path.join(self.home, "telemetryd.toml")
        user = pwd.getpwuid(os.geteuid()).pw_name
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f'[daemon]\nstate_dir = "{self.home}/state"\nruntime_dir = "{self.home}/run"\n'
                       f'[ingest]\n{ingest_keys}\n'
                       f'[policy]\nmode = "opt-out"\n'
                       f'[gateway]\nstart_by = "service_manager"\nuser = "{user}"\n{gateway_keys}\n')
        self.path = os.path.join(self.home, "grpc.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(128)
        self.target = "unix:" + self.path
        self.daemon = self.gateway = None
        self.log = open(os.path.join(self.home, "log"), "wb")

    def start_daemon(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = os.path.join(self.home, "notify")
        if os.path.exists(path):
            os.unlink(path)
        notify.bind(path)
        notify.settimeout(PATIENCE)
        self.daemon = subprocess.Popen(
            [os.environ["TELEMETRYD_PROGRAM"], "--config", self.config],
            env={**os.environ, "NOTIFY_SOCKET": path}, stdout=self.log, stderr=self.log)
        while b"READY=1" not in notify.recv(4096):
            pass
        notify.close()

    def start_gateway(self, extra=()):
        listener = self.listener.fileno()
        self.gateway = subprocess.Popen(
            [os.environ["TELEMETRYD_GATEWAY"], "--config", self.config, "--fd", str(listener), *extra],
            pass_fds=(listener,), stdout=self.log, stderr=self.log)

    def kill_gateway(self):
        self.gateway.send_signal(signal.SIGKILL)
        self.gateway.wait(PATIENCE)

    def get(self, target):
        connection = AdminConnection(os.path.join(self.home, "run/admin.sock"))
        connection.request("GET", target)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def ledger(self):
        answer = self.get("/v1/ledger")
        return answer.get("machine", answer)

    def names(self):
        return [each["name"] for each in self.get("/v1/events?limit=1000")["events"]]

    def stop(self):
        for process in (self.gateway, self.daemon):
            if process and process.poll() is None:
                process.kill()
                process.wait(PATIENCE)
        self.log.close()
        self.listener.close()
        shutil.rmtree(self.home, ignore_errors=True)


class RigTest(unittest.TestCase):
    gateway_keys = ""
    ingest_keys = ""

    def setUp(self):
        self.rig = Rig(self.gateway_keys, self.ingest_keys)
        self.addCleanup(self.rig.stop)
        self.rig.start_daemon()
        self.rig.start_gateway()

    def client(self, *arguments, **named):
        # Or clients of one process with the same options would share a connection.
        options = (("grpc.use_local_subchannel_pool", 1),)
        client = Client(*(arguments or (self.rig.target,)), options=options, **named)
        self.addCleanup(client.close)
        return client

    def refusal(self, call):
        """(code, text, RetryInfo in ms) of a call that must fail."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        return caught.exception.code().name, caught.exception.details(), retry_info(caught.exception)


def wait_readable(stream, seconds=PATIENCE):
    return bool(select.select([stream], [], [], seconds)[0])


def wait_until(condition, seconds=PATIENCE):
    """For what only a question can find out; the bound is for broken code."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
