#!/usr/bin/env python3
"""The machine's raw uid is in no file, log or packet of telemetryd, in no encoding.

A daemon with a known uid takes in events, stores some and uploads some. Then everything that it and
the forwarder wrote or sent is searched for the uid as text, as bytes, in base64 at every offset,
reversed and as a UUID, also inside compressed data. The salted machine ID must be found, and a
planted uid too: otherwise the search would prove nothing.
"""

import argparse
import base64
import gzip
import hashlib
import http.server
import json
import random
import sys
import threading
import zlib

import rig as rigs
from rig import Broken, Untested, wait_until


def encodings(uid):
    """Name to bytes, for a uid of 32 hex digits."""
    raw = bytes.fromhex(uid)
    hyphenated = rigs.id_text(raw)
    wanted = {"lower case": uid.encode(), "upper case": uid.upper().encode(), "UUID": hyphenated.encode(),
              "UUID upper case": hyphenated.upper().encode(), "bytes": raw, "bytes reversed": raw[::-1],
              "text reversed": uid[::-1].encode(), "hex of the text": uid.encode().hex().encode(),
              "UTF-16": uid.encode("utf-16-le")}
    for what, data in (("bytes", raw), ("text", uid.encode()), ("UUID", hyphenated.encode())):
        for offset in range(3):
            # Bits of the neighbours are in the first and last character of a group: leave those out.
            for style, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
                text = encode(bytes(offset) + data + bytes(2))
                wanted[f"{style} of {what} at offset {offset}"] = text[4 if offset else 0:len(text) - 8]
    return wanted


def plain_forms(data):
    """The data and what decompresses out of it."""
    yield data
    for magic, inflate in ((b"\x1f\x8b", gzip.decompress), (b"\x78", zlib.decompress)):
        if data.startswith(magic):
            try:
                yield inflate(data)
            except (OSError, zlib.error, EOFError):
                pass


def find(uid, things):
    """Where the uid is, in words."""
    wanted = encodings(uid)
    return [f"{name}: {how}" for name, data in things.items() for form in plain_forms(data)
            for how, needle in wanted.items() if needle in form]


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    uploads = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # The head apart from the body, so that a compressed body can be opened.
        Upstream.uploads += [(self.requestline + str(self.headers)).encode(), body]
        count = int(self.headers.get("X-Batch-Size", "0"))
        answer = json.dumps({"status": "success", "accepted": count, "duplicates": 0, "rejected": 0, "errors": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def everything_written(rig, uid_file):
    return {str(path.relative_to(rig.folder)): path.read_bytes() for path in rig.folder.rglob("*")
            if path.is_file() and path != uid_file}


def prove(rig, summary):
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    uid = random.randbytes(16).hex()
    uid_file = rig.folder / "machine-id"
    uid_file.write_text(uid + "\n")
    secrets = {}
    for name in ("token", "secret"):
        secrets[name] = rig.folder / name
        secrets[name].write_text("tk_" + "5" * 40 + "\n")
        secrets[name].chmod(0o600)
    rig.write_config(f"""
[[destination]]
name = "upstream"
kind = "native"
url = "http://127.0.0.1:{upstream.server_address[1]}"
org = "proof"
app = "machine"
token_file = "{secrets['token']}"
secret_file = "{secrets['secret']}"
[[destination]]
name = "disk"
kind = "file"
url = "{rig.folder}/out.jsonl"
""", '[[route]]\napp = "sent"\ndestination = "upstream"\n[[route]]\napp = "filed"\ndestination = "disk"\n')
    rig.start_daemon()
    for position, app in enumerate(("sent", "filed", "kept")):
        rigs.Producer(rig, app, position, 50).finish(60)
    rig.ctl("queue", "flush", check=False)
    wait_until(lambda: rig.status()["ledger"]["delivered"] == 100, 30, "the deliveries")
    for path in ("/v1/status", "/v1/events", "/v1/config", "/v1/ledger", "/v1/consent"):
        (rig.folder / ("answer" + path.replace("/", "-"))).write_text(json.dumps(rig.get(path)))
    # What the store holds while it runs and what it leaves behind.
    things = {f"running {name}": data for name, data in everything_written(rig, uid_file).items()}
    rig.stop_daemon()
    things |= everything_written(rig, uid_file)
    things |= {f"upload {position}": data for position, data in enumerate(Upstream.uploads)}
    upstream.shutdown()
    judge(things, uid, summary)


def judge(things, uid, summary):
    summary.update(searched=len(things), bytes=sum(len(data) for data in things.values()))
    # Keep the search honest: it must see what is there.
    salted = hashlib.sha256(b"sent.telemetry.v1" + uid.encode()).hexdigest().encode()
    if not any(salted in data for name, data in things.items() if name.startswith("upload")):
        raise Untested("the salted machine ID is in no upload, so uploads were not seen")
    for how, needle in encodings(uid).items():
        if not find(uid, {"planted": b"xx" + needle + b"xx"}):
            raise Untested(f"the search does not find the uid as {how}")
    found = find(uid, things)
    if found:
        raise Broken("the raw machine uid is in " + "; ".join(found[:5]))


def main():
    options = rigs.arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    summary = {}
    with rigs.Rig(options.build, telemetryd=options.telemetryd, keep=options.keep) as rig:
        return rigs.finish("raw_uid", summary, lambda: prove(rig, summary))


if __name__ == "__main__":
    sys.exit(main())
