"""Certificates made for the occasion with the openssl program."""

import subprocess


def make(folder):
    """An authority; a server, a client and a server of another name that it vouches for, and a client for whom it did until
    yesterday; a stranger's authority."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    for name, known_as in (("server", "DNS:localhost,IP:127.0.0.1,IP:192.0.2.1"), ("client", "DNS:client"), ("elsewhere", "DNS:elsewhere"), ("expired", "DNS:client")):
        (folder / "extensions").write_text(f"subjectAltName={known_as}\n")
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", f"{name}.pem",
                "-days", "-1" if name == "expired" else "2", "-extfile", "extensions")
