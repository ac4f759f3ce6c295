"""A systemd that runs as process 1 of a PID namespace of its own, and starts what it is given.

It shares the network and the kernel with the machine. It has its own `/run`, `/var`, `/tmp`, `/opt`
and control groups, an `/etc` of which nothing comes back, and of the machine's units only the
journal. Needs root.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
CHECKOUT = Path(__file__).parents[3]
TARGET = "booted.target"
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")

BOOT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -o bind,ro /proc/sys /proc/sys
root="$1"
mkdir "$root/mounted" "$root/mounted/python" "$root/mounted/site" "$root/mounted/checkout"
mount --bind "$2" "$root/mounted/python"
mount --bind "$3" "$root/mounted/site"
mount --bind "$4" "$root/mounted/checkout"
mount -t tmpfs tmpfs /run
mkdir /run/kept /run/lock
mount --rbind "$root" /run/kept
mount -o bind,ro /sys /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
units=/usr/lib/systemd/system
mkdir /mnt/units
cp $units/systemd-journald.service $units/systemd-journald.socket $units/basic.target \
  $units/sysinit.target $units/shutdown.target $units/sockets.target /mnt/units
mount --bind /mnt/units $units
for folder in /opt /var /tmp; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir -m 1777 /var/tmp; chmod 1777 /tmp
mkdir /var/lib /var/log; ln -s ../run /var/run
for part in python site checkout; do
  mkdir /opt/$part
  mount --bind /run/kept/mounted/$part /opt/$part
done
cp -a /run/kept/files/. /
mount --bind "$5" /dev/console
mount --make-rshared / # by which credentials reach their services
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  "$6" --system --unit="$7" --log-target=console --show-status=no
"""
PROGRAM = """\
#!/bin/sh
export PYTHONHOME=/opt/python LD_LIBRARY_PATH=/opt/python/lib
export PYTHONPATH=/opt/checkout:/opt/site PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python3 -m pgflow_events "$@"
"""


TRIAL = "mount --make-rprivate / && mount -t cgroup2 none /sys/fs/cgroup"


def what_is_missing() -> str | None:
    """Say why none can be booted here."""
    if os.geteuid() != 0:
        return "only root boots a systemd"
    if not SYSTEMD.exists() or not shutil.which("unshare") or not shutil.which("nsenter"):
        return "systemd, unshare or nsenter is not installed"
    if not any((group / "cgroup.procs").exists() for group in GROUPS):
        return "there is no unified hierarchy of control groups"
    trial = subprocess.run(
        ["unshare", *NAMESPACES, "sh", "-c", TRIAL], capture_output=True, text=True, check=False
    )
    return f"no namespaces: {trial.stderr}" if trial.returncode else None


class Booted:
    """The systemd, whose files are those below `files`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self.process: subprocess.Popen[bytes] | None = None
        parent = next(group for group in GROUPS if (group / "cgroup.procs").exists())
        self._group = parent / f"booted-{os.getpid()}"

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine."""
        file = self.files / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def boot(self) -> None:
        """Start it, with the unit `booted.target`."""
        self.root.chmod(0o755)
        self._group.mkdir()
        lead, follow = os.openpty()
        arguments = [self.root, sys.base_prefix, site_packages(), CHECKOUT, os.ttyname(follow)]
        with (self.root / "console").open("wb") as console:
            self._console = subprocess.Popen(["cat"], stdin=lead, stdout=console, stderr=console)
            self.process = subprocess.Popen(
                ["unshare", *NAMESPACES, "sh", "-c", BOOT, "sh", *arguments, SYSTEMD, TARGET],
                preexec_fn=self._enter_group,  # noqa: PLW1509 - nothing but a write to a file
                stdin=follow,
                stdout=follow,
                stderr=follow,
            )
        os.close(lead)
        os.close(follow)

    def _enter_group(self) -> None:
        (self._group / "cgroup.procs").write_text("0")

    @property
    def console(self) -> str:
        return (self.root / "console").read_text(errors="replace")

    @property
    def log(self) -> str:
        return self.console + self.run("journalctl", "--no-pager", "--output=short-monotonic")

    def run(self, *command: str) -> str:
        """Run a command in there; what it says, and nothing while there is no systemd."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not (child := children.read_text().strip() if children.exists() else ""):
            return ""
        answer = subprocess.run(
            ["nsenter", "--target", child, "--mount", "--pid", "--cgroup", *command],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return answer.stdout + answer.stderr

    def show(self, unit: str) -> Mapping[str, str]:
        """The properties of a unit."""
        lines = self.run("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def until(self, happened: Callable[[], bool], within: float = 30) -> None:
        """Return when it has happened: systemd tells nobody."""
        deadline = time.monotonic() + within
        while not happened():
            assert time.monotonic() < deadline, self.log
            assert self.process
            assert self.process.poll() is None, self.console
            time.sleep(0.05)

    def end(self) -> None:
        """End all that runs in there."""
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self._console.kill()
            self._console.wait(30)
        for _ in range(100):  # until the kernel has let go of the processes
            with suppress(OSError):
                for folder, _, _ in os.walk(self._group, topdown=False):
                    Path(folder).rmdir()
                return
            time.sleep(0.05)


def site_packages() -> Path:
    import psycopg  # noqa: PLC0415 - any of those that are installed

    return Path(psycopg.__file__).parents[1]


@contextmanager
def booted(root: Path) -> Iterator[Booted]:
    """One that is ended with the block."""
    made = Booted(root)
    made.write("/opt/pages/venv/bin/pgflow-events", PROGRAM, 0o755)
    try:
        yield made
    finally:
        made.end()


def kill(made: Booted, unit: str, number: signal.Signals) -> None:
    """Send a signal to the process of a unit."""
    made.run("kill", f"-{number.value}", made.show(unit)["MainPID"])
