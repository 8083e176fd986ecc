#!/usr/bin/env python3
"""Every promise that a build breaks on purpose is noticed, by each kind of proof.

Builds telemetryd with each switch of daemon/store/sabotage.h and runs the proofs on it. Each must
say FAILED because the claim is broken; a proof that could not run does not count. The unbroken
build must pass the same proofs, otherwise a failure would mean nothing.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

BROKEN = 1
SOURCE = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent

# Each kind of proof must notice each of them: images of power cuts, crash points, the oracle.
PROOFS = ("power_cut_test", "crash_points", "oracle")
# These need not notice all, but some nobody else looks at: an answer of the gateway, a kill at work.
MORE_PROOFS = {
    "ACK_BEFORE_COMMIT": ("ack_trace", "grpc_ack_trace"),
    "SYNCHRONOUS_OFF": ("ack_trace", "grpc_ack_trace"),
    "LEDGER_OFF_BY_ONE": ("kill_proof",),
    "DROPPED_FRAME": ("kill_proof",),
    "REUSED_NUMBER": (),
}


def build(name, folder, jobs):
    """Only what the proofs run; in one folder, because a switch concerns few sources."""
    # As what ships is built, so that nothing but the switch is different.
    configure = ["cmake", "-S", SOURCE, "--preset", "release", "-B", folder, f"-DTELEMETRYD_SABOTAGE={name}"]
    if shutil.which("ccache"):
        configure += ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_C_COMPILER_LAUNCHER=ccache"]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    targets = ["telemetryd"]
    known = subprocess.run(["cmake", "--build", folder, "--target", "help"], check=True, text=True, capture_output=True).stdout
    if "power_cut_test" in known:
        targets.append("power_cut_test")
    subprocess.run(["cmake", "--build", folder, f"-j{jobs}", "--target", *targets], check=True, stdout=subprocess.DEVNULL)


def run(proof, main_build, folder, seed, timeout_s=400):
    """Exit code and last line."""
    if proof == "power_cut_test":
        command = [folder / "tests" / "power_cut_test"]
        if not command[0].exists():
            return None, "not built"
    else:
        # Debian's grpc package is for Debian's Python.
        python = "/usr/bin/python3" if proof in ("oracle", "grpc_ack_trace") else sys.executable
        command = [python, "-B", HERE / f"{proof}.py", "--build", main_build, "--telemetryd",
                   folder / "bin" / "telemetryd", "--quick", "--seed", seed]
    # What breaks a promise is there on nearly every image: as many as a quick run has are enough.
    environment = dict(os.environ, TELEMETRYD_TEST_SEED=str(seed), TELEMETRYD_POWER_CUT_IMAGES="400")
    try:
        result = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=timeout_s,
                                stdin=subprocess.DEVNULL, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return None, f"not done within {timeout_s} s"
    lines = result.stdout.strip().splitlines() or [result.stderr.strip()[-200:] or "no output"]
    return result.returncode, lines[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/dev", help="folder of the unbroken build")
    parser.add_argument("--folder", default="build/sabotage", help="the broken builds go here, one after the other")
    parser.add_argument("--only", choices=MORE_PROOFS, action="append")
    parser.add_argument("--no-control", action="store_true", help="do not run the proofs on the unbroken build")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    main_build = pathlib.Path(options.build).resolve()
    missed = []
    if not options.no_control:
        for proof in (*PROOFS, "ack_trace", "grpc_ack_trace", "kill_proof"):
            code, line = run(proof, main_build, main_build, options.seed)
            print(f"unbroken: {proof} {'passes' if code == 0 else f'ends with {code}: {line}'}", flush=True)
            if code != 0:
                missed.append(f"unbroken build fails {proof}")
    for name in options.only or MORE_PROOFS:
        folder = pathlib.Path(options.folder).resolve()
        build(name, folder, options.jobs)
        for proof in PROOFS + MORE_PROOFS[name]:
            code, line = run(proof, main_build, folder, options.seed)
            # A program that fell over ends with 1 as well, and has noticed nothing.
            caught = code == BROKEN and "FAILED" in line
            print(f"{name}: {'caught by' if caught else 'NOT caught by'} {proof}, which ends with {code}: {line[:300]}", flush=True)
            if not caught:
                missed.append(f"{name} was not noticed by {proof}")
    print(f"RESULT: {'FAILED ' + '; '.join(missed) if missed else 'ok'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
