"""A private PostgreSQL with pg_tandem preloaded from the build folder; nothing of the system's is touched."""
import atexit
import os
import re
import shutil
import signal
import subprocess

import psycopg2

from . import paths, process

USER = "postgres"

# Durability stays on: the crash tests are about it. Everything here can be overridden by `settings`.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "shared_buffers": "128MB",
    "max_connections": "60",
    "max_worker_processes": "40",
    "fsync": "on",
    "log_line_prefix": "%m [%p] %q%a %d ",
    "log_min_messages": "info",
    "log_checkpoints": "off",
    "autovacuum_naptime": "10s",
    "timezone": "UTC",
    "shared_preload_libraries": "pg_tandem",
}


def stage_extension(folder):
    """Copies the staged extension where the server's user can read it (a checkout may be private) and returns the settings for it."""
    stage = folder / "stage"
    if not stage.exists():
        if not paths.STAGE.exists():
            raise RuntimeError(f"nothing staged in {paths.STAGE}: run make first")
        shutil.copytree(paths.STAGE, stage)
        process.run(["chmod", "-R", "a+rX", stage])
    return {
        # Debian's PostgreSQL reads control files and libraries below these folders as well.
        "extension_destdir": str(stage),
        "dynamic_library_path": f"{stage}/usr/lib/postgresql/15/lib:$libdir",
    }


class Postgres:
    def __init__(self, folder, name="pg", settings=None, preload=True):
        self.folder = folder
        self.home = folder / name
        self.home.mkdir()
        if process.am_root():
            shutil.chown(self.home, USER, USER)
        self.data = self.home / "data"
        self.log = self.home / "log"
        self.port = process.free_port()
        self.settings = dict(SETTINGS)
        if preload:
            self.settings.update(stage_extension(folder))
        else:
            self.settings.pop("shared_preload_libraries")
        self.settings.update(settings or {})
        self._init()

    # --- life ---------------------------------------------------------------------------------------------------------------------
    _template = None  # data folder made by the first server of this process: a copy is much cheaper than another initdb

    def _init(self):
        if Postgres._template is None:
            keeper = process.Folder("tandem-initdb-")
            atexit.register(keeper.remove)
            home = keeper.make("made", USER)
            process.run(process.as_user(USER, [paths.PG_BIN / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                                               "--locale=C.UTF-8", "--no-sync"]), cwd="/")
            Postgres._template = home / "data"
        process.run(process.as_user(USER, ["cp", "-a", Postgres._template, self.data]), cwd="/")
        self.set(**self.settings)

    def set(self, **settings):
        """Writes settings; they count from the next start or reload."""
        self.settings.update(settings)
        lines = [f"{name} = '{value}'" for name, value in self.settings.items()]
        lines += [f"port = {self.port}", f"unix_socket_directories = '{self.home}'"]
        (self.data / "tandem.conf").write_text("\n".join(lines) + "\n")
        conf = self.data / "postgresql.conf"
        text = conf.read_text()
        if "tandem.conf" not in text:
            conf.write_text(text + "\ninclude 'tandem.conf'\n")
        if process.am_root():
            shutil.chown(self.data / "tandem.conf", USER, USER)

    def reload(self, **settings):
        self.set(**settings)
        os.kill(self.pid(), signal.SIGHUP)

    def start(self):
        self.log.touch()
        if process.am_root():
            shutil.chown(self.log, USER, USER)
        try:
            process.run(process.as_user(USER, [paths.PG_BIN / "pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start"]),
                        cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log.read_text()[-3000:]}") from None
        return self

    def stop(self, mode="fast"):
        if self.running():
            process.run(process.as_user(USER, [paths.PG_BIN / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop"]), cwd="/")

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def pid(self):
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def running(self):
        try:
            return process.alive(self.pid())
        except (FileNotFoundError, IndexError, ValueError):
            return False

    def kill(self):
        """kill -9 of the postmaster; its children notice and end before a new start is possible."""
        process.kill_and_wait(self.pid())
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    # --- use ----------------------------------------------------------------------------------------------------------------------
    def conninfo(self, database="postgres", user="postgres", port=None):
        return f"host=127.0.0.1 port={port or self.port} dbname={database} user={user}"

    def connect(self, database="postgres", user="postgres", autocommit=True, **options):
        connection = psycopg2.connect(self.conninfo(database, user), **options)
        connection.autocommit = autocommit
        return connection

    def query(self, sql, parameters=None, database="postgres", user="postgres"):
        kept, name = process.kept(), (self.port, database, user)
        connection = (kept or {}).pop(name, None)
        if connection is not None:
            try:
                return self._query(connection, sql, parameters, kept, name)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if error.pgcode is not None and not error.pgcode.startswith("57P"):  # else it was away since it was asked last
                    raise
        return self._query(self.connect(database, user), sql, parameters, kept, name)

    def _query(self, connection, sql, parameters, kept, name):
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                result = cursor.fetchall() if cursor.description else None
        except psycopg2.Error:
            connection.close()
            raise
        if kept is None:
            connection.close()
        else:
            kept[name] = connection
        return result

    def value(self, sql, parameters=None, database="postgres", user="postgres"):
        return self.query(sql, parameters, database, user)[0][0]

    def program(self, name, *arguments, **options):
        """Runs psql, pg_dump … against this server and returns the output."""
        return process.run([paths.PG_BIN / name, "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", *arguments], **options)

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_has(self, pattern):
        return re.search(pattern, self.log_text()) is not None
