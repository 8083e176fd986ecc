"""A booted systemd in a container over the machine's own root, and nothing left of it afterwards.

The root is an overlay whose writes go to a tmpfs inside a mount namespace of the container's own, so
all of it vanishes with the last process. The network is private. The container gets control
groups of its own below the caller's, powers itself off in time whatever happens to the caller,
and is stopped in order by stop().
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

NEEDED = ("systemd-nspawn", "unshare", "nsenter", "setsid", "setpriv")

OUTER = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$1/overlay"
mkdir "$1/overlay/upper" "$1/overlay/work" "$1/overlay/root"
cp -a "$1/stage/." "$1/overlay/upper/"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/overlay/upper,workdir=$1/overlay/work" "$1/overlay/root"
exec systemd-nspawn -q -D "$1/overlay/root" --register=no --keep-unit --private-network --console=pipe -b \
  systemd.unit=multi-user.target systemd.mask=postgresql.service systemd.mask=docker.service
"""


def missing():
    """Why a container cannot be booted here; empty when it can."""
    if os.geteuid() != 0:
        return "not root"
    absent = [program for program in NEEDED if not shutil.which(program)]
    if absent:
        return "not installed: " + ", ".join(absent)
    if not control_groups():
        return "no control group hierarchy to write to"
    return ""


def control_groups():
    """The caller's own groups in the hierarchies that systemd manages."""
    groups = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "name=systemd":
            base = pathlib.Path("/sys/fs/cgroup/systemd")
        elif controllers == "":
            unified = pathlib.Path("/sys/fs/cgroup/unified")
            base = unified if unified.is_dir() else pathlib.Path("/sys/fs/cgroup")
        else:
            continue
        group = base / path.lstrip("/")
        if os.access(group / "cgroup.procs", os.W_OK):
            groups.append(group)
    return groups


class Container:
    def __init__(self, lives_s):
        self.lives_s = lives_s
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="telemetryd-system-"))
        self.stage = self.folder / "stage"
        self.stage.mkdir()
        # mkdtemp's 0700 would become the mode of the container's root.
        self.stage.chmod(0o755)
        (self.folder / "overlay").mkdir()
        self.log = self.folder / "console.log"
        self.groups = []
        self.outer = None
        self.leader = None

    def boot(self, timeout_s=60):
        self.groups = [group / f"telemetryd-test-{os.getpid()}" for group in control_groups()]
        for group in self.groups:
            group.mkdir()

        def enter_groups():
            for group in self.groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        with open(self.log, "wb") as console:
            self.outer = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-c", OUTER, "sh", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=enter_groups)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.outer.poll() is not None:
                raise RuntimeError("the container ended while booting:\n" + self.console())
            self.leader = self.leader or self._child_of_nspawn()
            if self.leader:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    self.run("systemd-run", "--quiet", f"--on-active={self.lives_s}",
                             "systemctl", "poweroff", "--force")
                    return
            time.sleep(0.1)
        raise RuntimeError("the container did not boot in time:\n" + self.console())

    def _child_of_nspawn(self):
        # unshare and sh became nspawn by exec, so PID 1 of the container is a child of the process
        # started above; nspawn has helpers beside it, and only PID 1 has NSpid ending in 1.
        children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        try:
            for child in children.read_text().split():
                status = pathlib.Path(f"/proc/{child}/status").read_text()
                spaces = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if len(spaces) == 3 and spaces[2] == "1":
                    return int(child)
        except (OSError, StopIteration):
            pass
        return None

    def run(self, *command, check=True, timeout_s=30, user=None, input_text=None):
        """Runs a command inside; `user` is a uid or name without any privilege."""
        # Nothing of the caller's environment: its HOME would be somebody else's here.
        prefix = ["nsenter", "-t", str(self.leader), "-a", "env", "-i", "HOME=/nonexistent", "LANG=C.UTF-8",
                  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        if user is not None:
            prefix += ["setpriv", f"--reuid={user}", "--regid=65534", "--clear-groups"]
        stdin = {"input": input_text} if input_text is not None else {"stdin": subprocess.DEVNULL}
        result = subprocess.run(prefix + [str(word) for word in command], text=True, capture_output=True,
                                timeout=timeout_s, cwd="/", **stdin)
        if check and result.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {result.returncode}\n"
                               f"{result.stdout}{result.stderr}")
        return result

    def show(self, unit, key):
        return self.run("systemctl", "show", "-p", key, "--value", unit).stdout.strip()

    def path(self, inside):
        """The container's file as seen from outside."""
        return pathlib.Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    def console(self):
        return self.log.read_text(errors="replace")[-4000:]

    def journal(self, *units):
        arguments = [word for unit in units for word in ("-u", unit)]
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", *arguments, check=False).stdout

    def stop(self, timeout_s=30):
        if self.outer and self.outer.poll() is None:
            leader = self.leader or self._child_of_nspawn()
            if leader:
                os.kill(leader, signal.SIGRTMIN + 3)  # power off in order
            else:
                self.outer.terminate()
            try:
                self.outer.wait(timeout_s)
            except subprocess.TimeoutExpired:
                # Killing nspawn would leave the container's systemd alive: kill that first.
                if leader:
                    os.kill(leader, signal.SIGKILL)
                self.outer.terminate()
                self.outer.wait(10)
        for group in self.groups:
            for folder in sorted(group.rglob("*"), key=lambda entry: len(entry.parts), reverse=True):
                if folder.is_dir():
                    remove_group(folder)
            remove_group(group)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_group(folder):
    # The kernel may take a moment to let go of a group whose last process has just ended.
    for _ in range(50):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
