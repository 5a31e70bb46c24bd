"""Runs tandem-sync for one PostgreSQL database."""
import os
import signal
import subprocess

from . import paths, process


class Worker:
    """`failpoint`: TANDEM_FAILPOINT, e.g. "pump:before_delete_exact:2=kill". Every start appends to the same log."""

    def __init__(self, postgres, database, folder, name="worker", failpoint=None, port=None, environment=None, arguments=()):
        self.postgres, self.database, self.name = postgres, database, name
        self.log = folder / f"{name}-{database}.log"
        self.port = port
        self.environment = dict(environment or {})
        self.arguments = list(arguments)
        self.failpoint = failpoint
        self.child = None

    def start(self):
        environment = {**os.environ, **self.environment}
        environment.pop("TANDEM_FAILPOINT", None)
        if self.failpoint:
            environment["TANDEM_FAILPOINT"] = self.failpoint
        with open(self.log, "ab") as log:
            log.write(f"--- start of {self.name}, failpoint {self.failpoint}\n".encode())
            log.flush()
            self.child = subprocess.Popen(
                [str(paths.worker_binary()), "run", "--postgres", self.postgres.conninfo(self.database, port=self.port), *self.arguments],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        return self

    def running(self):
        return self.child is not None and self.child.poll() is None

    def wait_leader(self, timeout=30):
        """Until some worker holds a lease that has not ended for every source, and this process still runs."""
        def leads():
            if not self.running():
                raise RuntimeError(f"tandem-sync ended with {self.child.returncode}:\n{self.log_text()[-3000:]}")
            return self.postgres.value("SELECT count(*) > 0 AND bool_and(coalesce(l.expires_at > now(), false)) FROM tandem.source s"
                                       " LEFT JOIN tandem.lease l USING (source_id)", database=self.database)
        process.wait_until(leads, timeout, 0.05, f"{self.name} to take the lease (log {self.log})")
        return self

    def wait_end(self, timeout=60):
        """Waits until the process ends by itself (a failpoint); returns its exit code, negative for a signal."""
        return self.child.wait(timeout)

    def kill(self):
        if self.running():
            self.child.kill()
            self.child.wait(30)

    def stop(self, timeout=30):
        """SIGTERM: finishes the batch in hand. Returns the exit code."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(30)
                raise RuntimeError(f"tandem-sync did not end within {timeout} s of SIGTERM:\n{self.log_text()[-3000:]}") from None
        return self.child.returncode if self.child else None

    def freeze(self):
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.child.send_signal(signal.SIGCONT)

    def stopped(self):
        """True when the process is held by SIGSTOP (a failpoint of kind `stop`)."""
        with open(f"/proc/{self.child.pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""
