#!/usr/bin/env python3
"""Does telemetryd-forward speak gRPC as a gRPC library expects it?

The peer is a server made with Python's grpc package, which shares nothing with telemetryd. The real
telemetryd-forward is driven over its lease protocol, as telemetryd does it.
"""

import argparse
import contextlib
import http.server
import json
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent import futures

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]
import certificates  # noqa: E402
import stubs  # noqa: E402

import grpc  # noqa: E402

BUILD = pathlib.Path()
TOKEN = "relay-token"
DELIVERED, RETRY, HOLD = 1, 2, 3
CAUSE = {"CONFIGURATION": 1, "CONNECT": 3, "TLS": 6, "PROXY": 8}


class Relay(grpc.GenericRpcHandler):
    """Answers Publish as the test says and remembers what it got."""

    def __init__(self, credentials=None, publish=None, limit=(1 << 20) + (64 << 10), health=1,
                 serves="telemetry.v1.IngestService"):
        self.requests, self.metadata, self.calls = [], [], []
        self.publish = publish or (lambda request, context: stubs.ingest.PublishResponse(acknowledged=1))
        self.health, self.serves = health, serves
        self.lock = threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", limit)])
        self.server.add_generic_rpc_handlers((self,))
        if credentials:
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.url = f"{'https' if credentials else 'http'}://127.0.0.1:{self.port}"
        self.server.start()

    def service(self, details):
        with self.lock:
            self.calls.append(details.method)
            self.metadata.append(dict(details.invocation_metadata))
        if details.method == f"/{self.serves}/Publish":
            return grpc.unary_unary_rpc_method_handler(self._publish, stubs.ingest.PublishRequest.FromString,
                                                       stubs.ingest.PublishResponse.SerializeToString)
        if details.method == "/grpc.health.v1.Health/Check" and self.health:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: bytes([8, self.health]))
        return None

    def _publish(self, request, context):
        if not request.events:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no events")
        answer = self.publish(request, context)
        with self.lock:
            self.requests.append(request)
        return answer

    def names(self):
        return [event.name for request in self.requests for event in request.events]

    def close(self):
        self.server.stop(None).wait()


def refuse(code, words, retry_s=None):
    def publish(_, context):
        if retry_s is not None:
            detail = stubs.retry_info.RetryInfo(retry_delay={"seconds": retry_s})
            status = stubs.retry_info.Status(code=code.value[0], message=words, details=[
                {"type_url": "type.googleapis.com/google.rpc.RetryInfo", "value": detail.SerializeToString()}])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, words)
    return publish


class Forwarder:
    """The real program, with this end of its link."""

    def __init__(self, folder, url, timeout_s=30, **keys):
        config = folder / "telemetryd.toml"
        lines = "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items())
        config.write_text(f'[forward]\nrequest_timeout_s = {timeout_s}\n'
                          f'[[destination]]\nname = "relay"\nkind = "grpc"\nurl = "{url}"\n{lines}')
        self.link, theirs = socket.socketpair()
        self.link.settimeout(60)
        with theirs:
            self.process = subprocess.Popen([BUILD / "bin/telemetryd-forward", "--config", config, "--fd",
                                             str(theirs.fileno())], pass_fds=[theirs.fileno()])
        if self.read().hello.protocol != 1:
            raise AssertionError("the forwarder did not greet")

    def read(self):
        def exactly(size):
            data = b""
            while len(data) < size:
                piece = self.link.recv(size - len(data))
                if not piece:
                    raise EOFError("the forwarder ended")
                data += piece
            return data
        while True:
            message = stubs.lease.FromForwarder.FromString(exactly(struct.unpack("<I", exactly(4))[0]))
            # How the machine stands to the world it tells when it likes.
            if message.WhichOneof("message") not in ("conditions", "route_change"):
                return message

    def send(self, message):
        body = message.SerializeToString()
        self.link.sendall(struct.pack("<I", len(body)) + body)

    def deliver(self, *rows):
        self.send(stubs.lease.ToForwarder(lease={"id": 1, "destination": "relay", "attempt": 1, "rows": rows}))
        return self.read().outcome

    def probe(self):
        self.send(stubs.lease.ToForwarder(probe={"id": 2, "destination": "relay"}))
        return self.read().probe_result

    def threads(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()))

    def close(self):
        self.link.close()
        return self.process.wait(30)


def row(seq, names, app="tool", machine="machine-a"):
    events = [stubs.event.Event(name=name) for name in names]
    return stubs.lease.LeasedRow(seq=seq, count=len(events), app=app, machine_id=machine,
                                 context=stubs.event.Context(app=app, app_version="1").SerializeToString(),
                                 events=stubs.event.EventBatch(events=events).SerializeToString())


class NotFound(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler, context=None):
    """The URL of an HTTP/1.1 server, over TLS with a context."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def http1_server(context):
    """The URL of a web server that knows nothing of HTTP/2."""
    return serving(NotFound, context)


def tunnel_proxy(status):
    """The URL of a proxy that makes tunnels when `status` is 200, and says it otherwise."""
    def pump(source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    class Tunnel(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_response(status)
            self.end_headers()
            self.close_connection = True
            if status != 200:
                return
            host, port = self.path.split(":")
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=pump, args=(server, self.connection))
                back.start()
                pump(self.connection, server)
                back.join()

        def log_message(self, *_):
            pass

    return serving(Tunnel)


class ForwarderTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="telemetryd-relay-"))
        certificates.make(cls.shared)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.shared))
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        token = self.folder / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.tls = {"ca_file": self.shared / "ca.pem"}
        self.token = {"token_file": token}

    def read(self, name):
        return (self.shared / name).read_bytes()

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.shared / "server.pem", self.shared / "server.key")
        return context

    def relay(self, tls=False, client_ca=None, certificate="server", **options):
        credentials = None
        if tls:
            credentials = grpc.ssl_server_credentials(
                [(self.read(f"{certificate}.key"), self.read(f"{certificate}.pem"))],
                root_certificates=self.read(client_ca) if client_ca else None, require_client_auth=bool(client_ca))
        relay = Relay(credentials, **options)
        self.stack.callback(relay.close)
        return relay

    def forwarder(self, url, **keys):
        forwarder = Forwarder(self.folder, url, **keys)
        self.stack.callback(forwarder.close)
        return forwarder

    def test_publishes_rows_over_tls_with_the_token_and_where_they_are_from(self):
        relay = self.relay(tls=True)
        outcome = self.forwarder(relay.url, **self.tls, **self.token).deliver(row(1, ["a", "b"]), row(2, ["c"]))
        self.assertEqual(outcome.verdict, DELIVERED, outcome.error)
        self.assertEqual(relay.names(), ["a", "b", "c"])
        for request, metadata in zip(relay.requests, relay.metadata):
            self.assertEqual(metadata["authorization"], "Bearer " + TOKEN)
            self.assertEqual((request.context.app, request.context.app_version), ("tool", "1"))
            self.assertEqual(request.context.machine_id, "machine-a")
            self.assertEqual((len(request.instance), request.number), (16, 1))
        self.assertNotEqual(relay.requests[0].instance, relay.requests[1].instance)

    def test_repeats_a_row_under_the_same_instance_also_from_another_process(self):
        relay = self.relay()
        for _ in range(2):
            forwarder = Forwarder(self.folder, relay.url)
            self.assertEqual(forwarder.deliver(row(1, ["a"])).verdict, DELIVERED)
            self.assertEqual(forwarder.close(), 0)
        first, second = relay.requests
        self.assertEqual(first.SerializeToString(), second.SerializeToString())

    def test_keeps_the_order_of_each_app(self):
        relay = self.relay()
        rows = [row(seq, [f"{seq % 3}-{seq}"], app=f"app{seq % 3}") for seq in range(1, 91)]
        self.assertEqual(self.forwarder(relay.url).deliver(*rows).verdict, DELIVERED)
        for app in range(3):
            seen = [int(name.split("-")[1]) for name in relay.names() if name.startswith(f"{app}-")]
            self.assertEqual(seen, sorted(seen))
            self.assertEqual(len(seen), 30)

    def test_delivers_to_a_relay_that_wants_a_client_certificate(self):
        relay = self.relay(tls=True, client_ca="ca.pem")
        ours = {"client_cert_file": self.shared / "client.pem", "client_key_file": self.shared / "client.key"}
        outcome = self.forwarder(relay.url, **self.tls, **ours).deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, DELIVERED, outcome.error)

    def test_says_that_the_client_certificate_has_expired(self):
        relay = self.relay(tls=True, client_ca="ca.pem")
        ours = {"client_cert_file": self.shared / "expired.pem", "client_key_file": self.shared / "expired.key"}
        outcome = self.forwarder(relay.url, **self.tls, **ours).deliver(row(1, ["a"]))
        self.assertEqual((outcome.verdict, outcome.cause), (HOLD, CAUSE["TLS"]), outcome.error)
        self.assertIn("client_cert_file expired on 20", outcome.error)

    def test_a_renewed_certificate_counts_and_half_of_a_pair_does_no_harm(self):
        relay = self.relay(tls=True, client_ca="ca.pem")
        ours = {name: self.folder / name for name in ("client_cert_file", "client_key_file")}
        ours["client_cert_file"].write_bytes(self.read("client.pem"))
        ours["client_key_file"].write_bytes(self.read("client.key"))
        forwarder = self.forwarder(relay.url, **self.tls, **ours)
        first = forwarder.deliver(row(1, ["a"]))
        self.assertEqual(first.verdict, DELIVERED, first.error)
        self.assertGreater(first.certificate_expires_unix_s, time.time())
        ours["client_cert_file"].write_bytes(self.read("stranger.pem"))
        self.assertEqual(forwarder.deliver(row(2, ["b"])).verdict, DELIVERED)
        # The other half: now it is a whole pair, of somebody whom the relay does not know.
        ours["client_key_file"].write_bytes(self.read("stranger.key"))
        self.assertNotEqual(forwarder.deliver(row(3, ["c"])).verdict, DELIVERED)

    def test_a_relay_may_mute_apps_with_a_success_and_with_a_failure(self):
        def mute(code):
            def publish(_, context):
                context.set_trailing_metadata((("telemetry-mute", 'tool;s=60, bad'), ("telemetry-mute", '"7zip";s=5')))
                if code:
                    context.abort(code, "no")
                return stubs.ingest.PublishResponse(acknowledged=1)
            return publish
        for code, verdict in ((None, DELIVERED), (grpc.StatusCode.UNAVAILABLE, RETRY), (grpc.StatusCode.NOT_FOUND, HOLD)):
            outcome = self.forwarder(self.relay(publish=mute(code)).url).deliver(row(1, ["a"]))
            self.assertEqual(outcome.verdict, verdict, outcome.error)
            self.assertEqual([(mute.app, mute.duration_s) for mute in outcome.mutes], [("tool", 60), ("7zip", 5)])

    def test_goes_through_a_proxy_and_names_it_when_it_fails(self):
        relay = self.relay(tls=True)
        with tunnel_proxy(200) as proxy:
            outcome = self.forwarder(relay.url, **self.tls, proxy=proxy).deliver(row(1, ["a"]))
            self.assertEqual(outcome.verdict, DELIVERED, outcome.error)
        with tunnel_proxy(407) as proxy:
            outcome = self.forwarder(relay.url, **self.tls, proxy=proxy).deliver(row(1, ["a"]))
            self.assertEqual((outcome.verdict, outcome.cause), (HOLD, CAUSE["PROXY"]), outcome.error)
        outcome = self.forwarder(relay.url, **self.tls, proxy=proxy).deliver(row(1, ["a"]))
        self.assertEqual((outcome.verdict, outcome.cause), (RETRY, CAUSE["PROXY"]), outcome.error)

    def test_names_the_client_certificate_that_the_relay_may_have_wanted(self):
        relay = self.relay(tls=True, client_ca="ca.pem")
        outcome = self.forwarder(relay.url, **self.tls).deliver(row(1, ["a"]))
        # This library's server closes without an alert, so it cannot be told from weather.
        self.assertEqual(outcome.verdict, RETRY)
        self.assertIn("client_cert_file", outcome.error)
        self.assertEqual(relay.requests, [])

    def test_holds_at_a_stranger(self):
        relay = self.relay(tls=True)
        forwarder = self.forwarder(relay.url, ca_file=self.shared / "stranger.pem")
        outcome = forwarder.deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, HOLD)
        self.assertRegex(outcome.error, "^TLS: .*certificate.*ca_file")
        self.assertEqual(relay.calls, [])
        probe = forwarder.probe()
        self.assertFalse(probe.ok)
        self.assertIn("TLS", probe.detail)

    def test_holds_at_a_relay_of_another_name(self):
        relay = self.relay(tls=True, certificate="elsewhere")
        outcome = self.forwarder(relay.url, **self.tls).deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, HOLD)
        self.assertRegex(outcome.error, "^TLS: ")
        self.assertEqual(relay.calls, [])

    def test_holds_with_certificates_that_cannot_be_used(self):
        relay, garbage = self.relay(tls=True), self.folder / "garbage.pem"
        garbage.write_text("no certificate\n")
        client, other = self.shared / "client.pem", self.shared / "server.key"
        for keys, words in (
                ({"ca_file": garbage}, f"ca_file: {garbage}: holds no whole certificate"),
                ({**self.tls, "client_cert_file": garbage, "client_key_file": garbage},
                 f"client_cert_file: {garbage}: holds no whole certificate"),
                ({**self.tls, "client_cert_file": client, "client_key_file": other},
                 f"client_key_file: {other}: is not the key of {client}")):
            outcome = self.forwarder(relay.url, **keys).deliver(row(1, ["a"]))
            self.assertEqual((outcome.verdict, outcome.cause), (HOLD, CAUSE["CONFIGURATION"]))
            self.assertIn(words, outcome.error)
        outcome = self.forwarder(relay.url, ca_file=self.folder / "none.pem").deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, HOLD)
        self.assertIn("none.pem", outcome.error)

    def test_holds_at_what_is_no_grpc(self):
        for context in (None, self.server_context()):
            with http1_server(context) as url:
                outcome = self.forwarder(url, **self.tls if context else {}).deliver(row(1, ["a"]))
                self.assertEqual(outcome.verdict, HOLD, outcome.error)
                self.assertIn("not telemetryd-gateway; check url", outcome.error)

    def test_retries_where_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        for scheme, keys in (("http", {}), ("https", self.tls)):
            outcome = self.forwarder(f"{scheme}://127.0.0.1:{port}", **keys).deliver(row(1, ["a"]))
            self.assertEqual((outcome.verdict, outcome.cause), (RETRY, CAUSE["CONNECT"]))
            self.assertIn("Connection refused", outcome.error)

    def test_retries_after_an_answer_that_is_too_large(self):
        relay = self.relay(publish=lambda request, context: stubs.ingest.PublishResponse(
            acknowledged=1, refused={"message": "x" * (2 << 20)}))
        outcome = self.forwarder(relay.url).deliver(row(1, ["a", "b"]))
        self.assertEqual(outcome.verdict, RETRY, outcome.error)
        self.assertIn("larger than max", outcome.error)

    def test_a_token_that_grpc_cannot_carry_is_named(self):
        token = self.folder / "odd-token"
        token.write_text("t\u00f6ken\n")
        token.chmod(0o600)
        relay = self.relay()
        outcome = self.forwarder(relay.url, token_file=token).deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, HOLD)
        self.assertIn("printable ASCII", outcome.error)
        self.assertEqual(relay.calls, [])

    def test_nothing_of_grpc_is_made_before_a_lease_needs_it(self):
        forwarder = self.forwarder(self.relay().url)
        self.assertEqual(forwarder.threads(), 1)
        self.assertEqual(forwarder.deliver(row(1, ["a"])).verdict, DELIVERED)
        self.assertGreater(forwarder.threads(), 1)

    def test_holds_with_the_wrong_token_and_does_not_show_it(self):
        relay = self.relay(publish=refuse(grpc.StatusCode.UNAUTHENTICATED, f"unknown token {TOKEN}"))
        outcome = self.forwarder(relay.url, **self.token).deliver(row(1, ["a"]))
        self.assertEqual((outcome.verdict, outcome.status), (HOLD, 16))
        self.assertIn("unknown token [hidden]; token_file must", outcome.error)

    def test_holds_at_a_service_of_another_kind(self):
        relay = self.relay(serves="other.Service")
        outcome = self.forwarder(relay.url).deliver(row(1, ["a"]))
        self.assertEqual((outcome.verdict, outcome.status), (HOLD, 12))
        self.assertIn("is url a telemetryd-gateway?", outcome.error)

    def test_retries_when_the_relay_says_later(self):
        relay = self.relay(publish=refuse(grpc.StatusCode.UNAVAILABLE, "disk", retry_s=7))
        outcome = self.forwarder(relay.url).deliver(row(1, ["a"]), row(2, ["b"]))
        self.assertEqual((outcome.verdict, outcome.retry_after_ms, outcome.status), (RETRY, 7000, 14))
        self.assertIn("UNAVAILABLE: disk", outcome.error)

    def test_leaves_a_relay_that_does_not_answer(self):
        release = threading.Event()
        self.stack.callback(release.set)
        relay = self.relay(publish=lambda request, context: release.wait(60))
        outcome = self.forwarder(relay.url, timeout_s=1).deliver(row(1, ["a"]))
        self.assertEqual(outcome.verdict, RETRY, outcome.error)

    def test_goes_on_with_a_new_connection_after_the_relay_restarted(self):
        relay = self.relay()
        forwarder = self.forwarder(relay.url)
        self.assertEqual(forwarder.deliver(row(1, ["a"])).verdict, DELIVERED)
        relay.close()
        self.assertEqual(forwarder.deliver(row(2, ["b"])).verdict, RETRY)
        again = grpc.server(futures.ThreadPoolExecutor(4))
        again.add_generic_rpc_handlers((relay,))
        self.assertEqual(again.add_insecure_port(f"127.0.0.1:{relay.port}"), relay.port)
        again.start()
        self.stack.callback(lambda: again.stop(None).wait())
        self.assertEqual(forwarder.deliver(row(2, ["b"])).verdict, DELIVERED)
        self.assertEqual(relay.names(), ["a", "b"])

    def test_divides_what_is_larger_than_a_frame(self):
        relay = self.relay()
        names = [f"{n:05}" + "x" * 40000 for n in range(60)]
        outcome = self.forwarder(relay.url).deliver(row(1, names))
        self.assertEqual(outcome.verdict, DELIVERED, outcome.error)
        self.assertEqual(relay.names(), names)
        self.assertEqual(len(relay.requests), 3)

    def test_halves_what_a_smaller_relay_cannot_take(self):
        relay = self.relay(limit=100_000)
        names = [f"{n:05}" + "x" * 1000 for n in range(500)]
        outcome = self.forwarder(relay.url).deliver(row(1, names))
        self.assertEqual(outcome.verdict, DELIVERED, outcome.error)
        self.assertEqual(relay.names(), names)

    def test_parks_the_one_event_that_is_refused(self):
        def publish(request, context):
            if "bad" in [event.name for event in request.events]:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_EVENT: bad")
            return stubs.ingest.PublishResponse(acknowledged=1)
        relay = self.relay(publish=publish)
        outcome = self.forwarder(relay.url).deliver(row(4, ["a", "b", "bad", "c"]))
        self.assertEqual(outcome.verdict, DELIVERED)
        self.assertEqual([(one.seq, one.first_index, one.count) for one in outcome.rejected], [(4, 2, 1)])
        self.assertIn("INVALID_EVENT: bad", outcome.rejected[0].reason)
        self.assertEqual(relay.names(), ["a", "b", "c"])

    def test_probe_asks_for_health_and_sends_no_event(self):
        relay = self.relay()
        probe = self.forwarder(relay.url, **self.token).probe()
        self.assertTrue(probe.ok, probe.detail)
        self.assertEqual(relay.calls, ["/grpc.health.v1.Health/Check", "/telemetry.v1.IngestService/Publish"])
        self.assertEqual(relay.names(), [])

    def test_probe_tells_a_relay_without_its_daemon(self):
        probe = self.forwarder(self.relay(health=2).url).probe()
        self.assertFalse(probe.ok)
        self.assertIn("not serving", probe.detail)

    def test_probe_tells_another_service(self):
        probe = self.forwarder(self.relay(health=0).url).probe()
        self.assertFalse(probe.ok)
        self.assertIn("UNIMPLEMENTED", probe.detail)
        self.assertIn("is url a telemetryd-gateway?", probe.detail)

    def test_ends_at_once_when_telemetryd_is_gone(self):
        asked, release = threading.Event(), threading.Event()
        self.stack.callback(release.set)

        def publish(request, context):
            asked.set()
            release.wait(60)
        forwarder = Forwarder(self.folder, self.relay(publish=publish).url)
        forwarder.send(stubs.lease.ToForwarder(lease={"id": 1, "destination": "relay", "rows": [row(1, ["a"])]}))
        self.assertTrue(asked.wait(60))
        self.assertEqual(forwarder.close(), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    options, rest = parser.parse_known_args()
    BUILD = pathlib.Path(options.build).resolve()
    unittest.main(argv=[sys.argv[0], *rest])
