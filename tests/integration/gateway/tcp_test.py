"""Does the TCP listener take events from those who may send, and from nobody else?"""

import os
import socket
import subprocess
import unittest

import grpc

from rig import PATIENCE, Rig, RigTest, acknowledged, event, request, wait_until

REMOTE_UID = 4294967295


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=PATIENCE)


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Tcp(RigTest):
    def setUp(self):
        self.rig = None

    def serve(self, keys="", address="127.0.0.1"):
        """Starts a gateway that gets a Unix and a TCP socket as a service manager passes them."""
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.bind((address, 0))
        self.tcp.listen(16)
        self.addCleanup(self.tcp.close)
        self.port = self.tcp.getsockname()[1]
        self.rig = Rig(keys)
        self.addCleanup(self.rig.stop)
        self.rig.start_daemon()
        # Out of the way first: one of them may be 3 or 4 already.
        script = (f"exec 20<&{self.rig.listener.fileno()} 21<&{self.tcp.fileno()}; exec 3<&20 4<&21; "
                  "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"")
        self.rig.gateway = subprocess.Popen(
            ["bash", "-c", script, "bash", os.environ["TELEMETRYD_GATEWAY"], "--config", self.rig.config],
            pass_fds=(self.rig.listener.fileno(), self.tcp.fileno()), stdout=self.rig.log, stderr=self.rig.log)

    def certificates(self, folder):
        os.makedirs(folder)
        for name, subject in (("ca", "/CN=test authority"), ("server", "/CN=localhost"), ("client", "/CN=client")):
            key, request_file, certificate = (os.path.join(folder, name + end) for end in (".key", ".csr", ".crt"))
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
            if name == "ca":
                openssl("req", "-x509", "-new", "-key", key, "-subj", subject, "-days", "2", "-out", certificate)
                continue
            openssl("req", "-new", "-key", key, "-subj", subject, "-out", request_file)
            names = os.path.join(folder, "names")
            with open(names, "w", encoding="ascii") as file:
                file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            openssl("x509", "-req", "-in", request_file, "-CA", os.path.join(folder, "ca.crt"), "-CAkey",
                    os.path.join(folder, "ca.key"), "-CAcreateserial", "-days", "2", "-extfile", names, "-out",
                    certificate)
            os.chmod(key, 0o600)
        return folder

    def tls_client(self, folder, with_certificate):
        key, chain = ((read(folder + "/client.key"), read(folder + "/client.crt")) if with_certificate
                      else (None, None))
        credentials = grpc.ssl_channel_credentials(read(folder + "/ca.crt"), key, chain)
        return self.client(f"localhost:{self.port}", credentials=credentials)

    def folder(self):
        import tempfile
        folder = tempfile.TemporaryDirectory(prefix="tlm-")
        self.addCleanup(folder.cleanup)
        return os.path.join(folder.name, "tls")

    def test_on_this_machine_in_the_clear_and_events_belong_to_nobody(self):
        self.serve()
        client = self.client(f"127.0.0.1:{self.port}")
        self.assertEqual(acknowledged(client.publish(request([event(b"far")], os.urandom(16), 1))), 1)
        self.client().publish(request([event(b"near")]))
        self.assertEqual(sorted(self.rig.names()), ["far", "near"])
        uids = {each["name"]: each["uid"] for each in self.rig.get("/v1/events?limit=10")["events"]}
        self.assertEqual(uids, {"far": REMOTE_UID, "near": os.geteuid()})

    def test_silent_strangers_lock_nobody_out(self):
        self.serve()
        before = self.client(f"127.0.0.1:{self.port}")
        before.publish(request([event(b"before")]))
        strangers = [socket.create_connection(("127.0.0.1", self.port), PATIENCE) for _ in range(70)]
        self.addCleanup(lambda: [each.close() for each in strangers])
        self.client(f"127.0.0.1:{self.port}").publish(request([event(b"after")]))
        # The first of them have made room. Only what the server says of itself may come before the end.
        first = strangers[0]
        first.settimeout(PATIENCE)
        while first.recv(4096):
            pass
        before.publish(request([event(b"still")]))
        self.assertEqual(self.rig.names(), ["before", "after", "still"])

    def test_a_client_certificate_is_asked_for_and_checked(self):
        tls = self.certificates(self.folder())
        self.serve(f'tls_cert_file = "{tls}/server.crt"\ntls_key_file = "{tls}/server.key"\n'
                   f'client_ca_file = "{tls}/ca.crt"')
        self.assertEqual(self.tls_client(tls, True).publish(request([event(b"known")])), b"")
        self.assertEqual(self.refusal(lambda: self.tls_client(tls, False).publish(request([event()])))[0],
                         "UNAVAILABLE")
        plain = self.client(f"127.0.0.1:{self.port}")
        self.assertEqual(self.refusal(lambda: plain.publish(request([event()])))[0], "UNAVAILABLE")
        self.assertEqual(self.rig.names(), ["known"])

    def test_a_token_is_asked_for_and_checked(self):
        tls = self.certificates(self.folder())
        token = os.urandom(16).hex()
        with open(tls + "/token", "w", encoding="ascii") as file:
            file.write(token + "\n")
        os.chmod(tls + "/token", 0o600)
        self.serve(f'tls_cert_file = "{tls}/server.crt"\ntls_key_file = "{tls}/server.key"\n'
                   f'token_file = "{tls}/token"', address="0.0.0.0")
        client = self.tls_client(tls, False)
        right, wrong = (("authorization", "Bearer " + token),), (("authorization", "Bearer " + token[:-1] + "x"),)
        self.assertEqual(client.publish(request([event(b"known")]), right), b"")
        for metadata in ((), wrong, right + right):
            refused = self.refusal(lambda each=metadata: client.publish(request([event()]), each))
            self.assertEqual(refused[0], "UNAUTHENTICATED")
            refused = self.refusal(
                lambda each=metadata: list(client.stream(iter([request([event()], b"i" * 16, 1)]), each)))
            self.assertEqual(refused[0], "UNAUTHENTICATED")
        # Nobody on this machine needs one: the kernel says who they are.
        self.assertEqual(self.client().publish(request([event(b"local")])), b"")
        self.assertEqual(self.rig.names(), ["known", "local"])

    def test_in_the_clear_beyond_this_machine_does_not_start(self):
        self.serve(address="0.0.0.0")
        self.assertEqual(self.rig.gateway.wait(PATIENCE), 1)
        self.assertIn(b"needs tls_cert_file", read(self.rig.home + "/log"))

    def test_a_file_that_cannot_be_read_is_named_with_its_key(self):
        self.serve('tls_cert_file = "/nope/server.crt"\ntls_key_file = "/nope/server.key"')
        self.assertEqual(self.rig.gateway.wait(PATIENCE), 1)
        self.assertIn(b"[gateway] tls_cert_file: /nope/server.crt: No such file", read(self.rig.home + "/log"))

    def test_its_own_tcp_socket_keeps_it(self):
        free = socket.socket()
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        self.rig = Rig(f'grpc_listen = "127.0.0.1:{port}"\nidle_exit_s = 1')
        self.addCleanup(self.rig.stop)
        self.rig.start_daemon()
        self.rig.start_gateway()
        client = self.client(f"127.0.0.1:{port}")

        def served():
            try:
                return client.publish(request([event()])) == b""
            except grpc.RpcError:
                return False

        self.assertTrue(wait_until(served))
        with self.assertRaises(subprocess.TimeoutExpired):
            self.rig.gateway.wait(2)


if __name__ == "__main__":
    unittest.main()
