#!/usr/bin/env python3
"""How long a daemon takes from exec to its first WELCOME when many events are queued.

  backlog.py --build FOLDER [--events N] [--under "chrt -f 1"]

Fills a store with fill_store (50 million events: 10 GB and a minute or two; removed afterwards),
starts a daemon on it and greets it, and then lets it take more, in turn with a daemon with an empty store.
A daemon that was killed on the same store shows a start without the clean close before it.
Prints one line of JSON.
"""

import argparse
import contextlib
import json
import operator
import pathlib
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proof"))
sys.dont_write_bytecode = True

import rig as rigs  # noqa: E402

BYTES_PER_EVENT = 200  # with pages and rows around them
PAIRS = 9
LOAD = ("--connections", "8", "--in-flight", "16", "--events-per-frame", "100", "--seconds")


def roomy_config(rig, bytes_max):
    rig.write_config()
    text = rig.config.read_text()
    rig.config.write_text(text.replace(f"bytes_max = {4 << 30}", f"bytes_max = {bytes_max}"))


def first_welcome_ms(rig, under=()):
    """From exec until a client that knocks all the time has its WELCOME."""
    frame = rigs.hello_frame("quiet")
    with contextlib.suppress(FileNotFoundError):
        rig.ingest_socket.unlink()  # a killed daemon's: nobody answers there
    with open(rig.log, "ab") as log:
        begun = time.monotonic()
        rig.daemon = rig.spawn(*under, rig.telemetryd, "--config", rig.config, stdout=log, stderr=log)
        while time.monotonic() - begun < 60:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(30)
                client.connect(str(rig.ingest_socket))
                client.sendall(frame)
                if client.recv(4096):
                    return (time.monotonic() - begun) * 1000
            time.sleep(0.0005)
    raise rigs.Untested("the daemon greets nobody: " + rig.log_tail())


def anonymous_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return 0.0


def events_per_s(rig, load_client, seconds):
    result = rig.run(load_client, "--socket", rig.ingest_socket, *LOAD, seconds, timeout_s=120)
    return json.loads(result.stdout)["events_per_s"]


def measure(build, events, under):
    bytes_max = max(4 << 30, events * BYTES_PER_EVENT * 5 // 4)
    bench = build / "bench"
    with rigs.Rig(build, sync_interval_s=3600) as rig, rigs.Rig(build, sync_interval_s=3600) as empty:
        rig.state.mkdir(parents=True, mode=0o700)
        filled = subprocess.run([bench / "fill_store", rig.state, str(events), str(bytes_max)], check=True, text=True,
                                stdout=subprocess.PIPE, timeout=900)
        row = json.loads(filled.stdout)
        roomy_config(rig, bytes_max)
        roomy_config(empty, bytes_max)
        first_welcome_ms(empty)  # makes the store
        empty.stop_daemon()
        clean, clean_empty, killed = [], [], []
        for _ in range(5):
            clean_empty.append(first_welcome_ms(empty, under))
            anonymous_empty = anonymous_mb(empty.daemon.pid)
            empty.stop_daemon()
            clean.append(first_welcome_ms(rig, under))
            anonymous = anonymous_mb(rig.daemon.pid)
            rig.stop_daemon()
        for _ in range(5):
            first_welcome_ms(rig)
            events_per_s(rig, bench / "load_client", 0.1)
            rig.daemon.kill()
            rig.daemon.wait()
            killed.append(first_welcome_ms(rig, under))
            rig.stop_daemon()
        first_welcome_ms(rig)
        first_welcome_ms(empty)
        full_rates, empty_rates = [], []
        for _ in range(PAIRS):
            full_rates.append(events_per_s(rig, bench / "load_client", 0.5))
            empty_rates.append(events_per_s(empty, bench / "load_client", 0.5))
        queued = rig.status()["ledger"]["queued"]
        if queued < events:
            raise rigs.Broken(f"{events} events were stored, {queued} are queued")
        rig.daemon.kill()  # nothing here is worth a clean close of so much
        rig.daemon.wait()
        return row | {"first_welcome_ms": round(statistics.median(clean), 1), "first_welcome_max_ms": round(max(clean), 1),
                      "first_welcome_empty_ms": round(statistics.median(clean_empty), 1), "after_kill_ms": round(statistics.median(killed), 1), "after_kill_max_ms": round(max(killed), 1),
                      "anonymous_mb": round(anonymous, 2), "anonymous_empty_mb": round(anonymous_empty, 2),
                      "ingest_ratio": round(statistics.median(map(operator.truediv, full_rates, empty_rates)), 3),
                      "ingest_per_s": round(statistics.median(full_rates)),
                      "ingest_empty_per_s": round(statistics.median(empty_rates))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="folder of a release build with TELEMETRYD_BENCH=ON")
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--under", default="", help="a command that starts the daemon, for a machine that does other work")
    options = parser.parse_args()
    try:
        print(json.dumps(measure(pathlib.Path(options.build).resolve(), options.events, options.under.split())), flush=True)
    except rigs.Broken as problem:
        print(f"backlog: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
