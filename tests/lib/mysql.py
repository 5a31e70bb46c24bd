"""A private MariaDB 10.11 (Debian's package) or MySQL 5.6.24 (npm package; the oldest server that is supported, and the one that reuses
auto-increment ids after a restart)."""
import atexit
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pymysql

from . import paths, process

FLAVORS = ["mariadb", "mysql56"]
TANDEM_PASSWORD = "worker secret"
APP_PASSWORD = "app secret"

# A committed transaction must survive kill -9: the crash tests count what was acknowledged.
COMMON = ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", "--max-allowed-packet=64M",
          "--character-set-server=utf8mb4", "--default-time-zone=+03:00", "--secure-file-priv="]


class MySqlServer:
    flavor = ""

    def __init__(self, folder, name=None, options=()):
        self.home = folder / (name or self.flavor)
        self.home.mkdir()
        self.data = self.home / "data"
        self.socket = self.home / "s.sock"
        self.log = self.home / "log"
        self.port = process.free_port()
        self.options = list(options)
        self.child = None
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        if process.am_root():
            self.user = "mysql"
            shutil.chown(self.home, self.user, self.user)
        self._init_once()

    # --- life ---------------------------------------------------------------------------------------------------------------------
    _templates = {}  # flavour → data folder made by the first server of this process: the bootstrap takes seconds, a copy does not

    def _init_once(self):
        template = self._templates.get(self.flavor)
        if template is None:
            keeper = process.Folder(f"tandem-{self.flavor}-")
            atexit.register(keeper.remove)
            self._init()
            template = keeper.path / "data"
            shutil.copytree(self.data, template)
            self._templates[self.flavor] = template
        else:
            self._prepare()
            shutil.copytree(template, self.data, dirs_exist_ok=True)
            process.give_to(self.data, self.user)

    def _prepare(self):
        """What _init makes outside the data folder."""

    def _init(self):
        raise NotImplementedError

    def _program(self):
        raise NotImplementedError

    def _environment(self):
        return dict(os.environ)

    def start(self):
        with open(self.log, "ab") as log:
            command = [*self._program(), f"--user={self.user}", f"--datadir={self.data}", f"--socket={self.socket}", f"--port={self.port}",
                       f"--pid-file={self.home}/pid", f"--tmpdir={self.home}", *COMMON, *self.options]
            # Its own session: a Ctrl-C of the tests must not take the server along before the tests have looked at it.
            self.child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, env=self._environment(), start_new_session=True,
                                          cwd=self.home)
        process.wait_until(self._answers, 60, 0.1, f"{self.flavor} to start (log {self.log})")
        return self

    def _answers(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.flavor} ended at its start:\n{self.log.read_text(errors='replace')[-3000:]}")
        try:
            self.connect().close()
            return True
        except pymysql.err.OperationalError as error:
            if error.args[0] in (2003, 2002, 2013):
                return False
            raise

    def stop(self, timeout=60):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(timeout)

    def kill(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait(60)

    def restart(self):
        self.stop()
        self.start()

    def running(self):
        return self.child is not None and self.child.poll() is None

    # --- use ----------------------------------------------------------------------------------------------------------------------
    def connect(self, database=None, user="root", password="", autocommit=True, **options):
        """root over the socket; everybody else over TCP like a real client."""
        where = {"unix_socket": str(self.socket)} if user == "root" else {"host": "127.0.0.1", "port": self.port}
        options.setdefault("charset", "utf8mb4")
        connection = pymysql.connect(user=user, password=password, database=database, autocommit=autocommit, **where, **options)
        return connection

    def query(self, sql, parameters=None, database=None):
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall()
        finally:
            connection.close()

    def value(self, sql, parameters=None, database=None):
        return self.query(sql, parameters, database)[0][0]

    def end_sessions(self, database):
        """Ends the sessions of everybody who uses the database, and their transactions with them."""
        for (session,) in self.query("SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()", (database,)):
            try:
                self.query(f"KILL {session}")
            except pymysql.err.MySQLError as error:
                if error.args[0] != 1094:  # it has ended by itself
                    raise

    def script(self, text, database=None):
        """Runs statements separated by `;` at the end of a line (or by `//` for compound ones)."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                for statement in statements(text):
                    cursor.execute(statement)
        finally:
            connection.close()

    def create_users(self, database, metadata_database):
        """`tandem`: the worker's user. `app`: the application's; it has no right at all on the metadata database."""
        for user, password in (("tandem", TANDEM_PASSWORD), ("app", APP_PASSWORD)):
            for host in ("localhost", "127.0.0.1", "%"):
                self.query(f"GRANT USAGE ON *.* TO '{user}'@'{host}' IDENTIFIED BY '{password}'")
                self.query(f"GRANT ALL ON `{database}`.* TO '{user}'@'{host}'")
        for host in ("localhost", "127.0.0.1", "%"):
            self.query(f"GRANT ALL ON `{metadata_database}`.* TO 'tandem'@'{host}'")
            self.query(f"GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'tandem'@'{host}'")

    def app(self, database, **options):
        return self.connect(database, "app", APP_PASSWORD, **options)

    def log_text(self):
        return self.log.read_text(errors="replace")


class MariaDb(MySqlServer):
    flavor = "mariadb"

    def _init(self):
        process.run(["mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={self.data}", "--auth-root-authentication-method=normal",
                     "--skip-test-db", "--skip-name-resolve"])

    def _program(self):
        return ["/usr/sbin/mariadbd", "--no-defaults"]


class MySql56(MySqlServer):
    flavor = "mysql56"

    def _prepare(self):
        # The server reads these as its own user; the checkout may be private.
        share = self.home / "share"
        shutil.copytree(paths.mysql56_home() / "share", share)
        process.run(["chmod", "-R", "a+rX", share])

    def _init(self):
        self._prepare()
        share = self.home / "share"
        (self.data / "mysql").mkdir(parents=True)
        process.give_to(self.data, self.user)
        sql = "use mysql;\n" + (share / "mysql_system_tables.sql").read_text() + (share / "mysql_system_tables_data.sql").read_text()
        process.run([*self._program(), f"--user={self.user}", "--bootstrap", f"--datadir={self.data}", f"--tmpdir={self.home}"],
                    input=sql.encode(), env=self._environment(), cwd=self.home)
        # Anonymous accounts would win over 'app'@'%' for local connections.
        process.run([*self._program(), f"--user={self.user}", "--bootstrap", f"--datadir={self.data}", f"--tmpdir={self.home}"],
                    input=b"use mysql;\nDELETE FROM user WHERE User = '';\n", env=self._environment(), cwd=self.home)

    def _program(self):
        return [paths.mysql56_home() / "mysqld", "--no-defaults", f"--basedir={self.home}", f"--lc-messages-dir={self.home}/share",
                f"--character-sets-dir={self.home}/share/charsets", "--performance-schema=off"]

    def _environment(self):
        return {**os.environ, "LD_LIBRARY_PATH": str(paths.mysql56_home())}


def statements(text):
    """Splits a script. `DELIMITER //` … `DELIMITER ;` works as in the mysql client."""
    delimiter, current = ";", []
    for line in text.splitlines():
        switch = re.fullmatch(r"\s*DELIMITER\s+(\S+)\s*", line, re.I)
        if switch:
            delimiter = switch.group(1)
            continue
        if not line.strip() or line.lstrip().startswith("--"):
            continue
        current.append(line)
        if line.rstrip().endswith(delimiter):
            yield "\n".join(current).rstrip()[: -len(delimiter)]
            current = []
    if "".join(current).strip():
        yield "\n".join(current)


def server(flavor, folder, name=None, options=()):
    return {"mariadb": MariaDb, "mysql56": MySql56}[flavor](Path(folder), name, options)
