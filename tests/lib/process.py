"""Processes and waiting. Servers refuse to run as root: then they run as the user of their Debian package."""
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path


def am_root():
    return os.geteuid() == 0


def as_user(user, command):
    """The command line that runs `command` as `user` when we are root, else as ourselves."""
    return ["runuser", "-u", user, "--", *command] if am_root() else list(command)


def give_to(path, user):
    """Hands a folder that we made to the server's user."""
    if not am_root():
        return
    entry = pwd.getpwnam(user)
    for folder, names, files in os.walk(path):
        for name in [".", *names, *files]:
            os.lchown(os.path.join(folder, name), entry.pw_uid, entry.pw_gid)


def run(command, **options):
    """Runs to the end; an error shows the whole output."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.STDOUT)
    done = subprocess.run([str(c) for c in command], **options)
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace") if done.stdout else ""
        raise RuntimeError(f"{' '.join(str(c) for c in command)} failed with {done.returncode}:\n{output[-4000:]}")
    return done.stdout


_claims = []


def free_port():
    """A loopback port for a server, claimed until this process ends. Not one of the kernel's ephemeral ports: while a server is down (killed, not
    started yet), an outgoing connection of anybody could get its port, and a client that tries again and again could even connect to itself. The
    claim, an abstract socket, keeps test runs that go side by side apart."""
    while True:
        port = random.randrange(14000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0tandem-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port


def wait_until(condition, timeout=30, every=0.05, what="condition"):
    """Returns the first true value of condition(); TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout
    with kept_connections():
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout} s for {what() if callable(what) else what}")
            time.sleep(every)


_kept = threading.local()


@contextlib.contextmanager
def kept_connections():
    """While somebody asks again and again: queries of this thread use one connection for each database, not a new one each time."""
    if getattr(_kept, "connections", None) is not None:
        yield
        return
    _kept.connections = {}
    try:
        yield
    finally:
        for connection in _kept.connections.values():
            connection.close()
        _kept.connections = None


def kept():
    """The connections kept now, by whatever names them; None: every query has its own."""
    return getattr(_kept, "connections", None)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie is dead: its parent just has not looked yet.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill_and_wait(pid, sig=signal.SIGKILL, timeout=60):
    """`pid` need not be our child."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return
    wait_until(lambda: not alive(pid), timeout, 0.02, f"process {pid} to end")


class Folder:
    """A temporary folder that servers of other users can enter; removed at the end unless told to keep it."""

    def __init__(self, prefix, base=None):
        base = base or os.environ.get("TANDEM_TMP", "/tmp")  # short: a unix socket's path may have 107 bytes
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        self.path.chmod(0o755)

    def make(self, name, user=None):
        folder = self.path / name
        folder.mkdir()
        if user and am_root():
            shutil.chown(folder, user, user)
        return folder

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
