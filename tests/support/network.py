"""Network namespaces for tests: one to be in, and one behind a cable. They end with the processes in them."""

import os
import shutil
import subprocess
import sys

INSIDE = "TELEMETRYD_TEST_NAMESPACE"


def ip(*words, inside=None):
    """Of the namespace that the process `inside` is in; of our own without."""
    prefix = ("nsenter", "-t", str(inside), "-n") if inside else ()
    subprocess.run([*prefix, "ip", *words], check=True)


def make_link(name, address):
    """A cable with both ends here: NAME0, which has the address, and NAME1."""
    ip("link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
    ip("address", "add", address, "dev", f"{name}0")
    for end in "01":
        ip("link", "set", f"{name}{end}", "up")


def lay_cable(ours, theirs, inside):
    """A cable from here to the namespace of the process `inside`, with an address at each end."""
    ip("link", "add", "near", "type", "veth", "peer", "name", "far")
    ip("link", "set", "far", "netns", str(inside))
    for end, address, where in (("near", ours, None), ("far", theirs, inside)):
        ip("address", "add", f"{address}/24", "dev", end, inside=where)
        ip("link", "set", end, "up", inside=where)


def why_not(*tries):
    """Why there can be no namespace in which these commands work; empty when there can."""
    for program in ("ip", "unshare", "nsenter"):
        if not shutil.which(program):
            return f"{program} is not installed"
    for command in (("ip", "link", "add", "up0", "type", "veth"), *tries):
        tried = subprocess.run(["unshare", "-n", *command], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            return f"{' '.join(command)}: {tried.stderr.strip()}"
    return ""


def go_inside():
    """Starts this program again in a namespace of its own, where it goes on at once."""
    if INSIDE not in os.environ:
        os.execvpe("unshare", ["unshare", "-n", "/usr/bin/python3", "-B", *sys.argv], {**os.environ, INSIDE: "1"})
    ip("link", "set", "lo", "up")


def is_inside():
    return INSIDE in os.environ
