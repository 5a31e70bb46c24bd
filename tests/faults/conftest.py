"""Fault tests kill servers, so every test has its own, and proxies on both ways of the worker."""
import itertools
import os
import shutil

import psycopg2
import pytest

from lib import mysql, paths, postgres, process, tandem
from lib.app import SCHEMA, Load
from lib.process import wait_until
from lib.proxy import Proxy

_numbers = itertools.count(1)

# Short, so that a take-over or a second attempt does not cost a test its patience.
SETTINGS = {"tandem.lease_ttl": "3s", "tandem.retry_backoff_max": "1s", "tandem.batch_rows": "500"}


def pytest_collection_modifyitems(config, items):
    """A test at many steps needs a server start for each: in the short version the old servers share the steps, every second each."""
    one_server = os.environ.get("TANDEM_MYSQL56") == "no" or "," not in os.environ.get("TANDEM_FLAVORS", ",")
    if paths.long_version() or one_server:
        return
    left_out = []
    for item in items:
        marker = item.get_closest_marker("parametrize")
        if marker is None or marker.args[0] not in ("step", "fault"):
            continue
        place = list(marker.args[1]).index(item.callspec.params[marker.args[0]])
        if place % 2 != ("mysql56" in item.callspec.id):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class FaultScene(tandem.Scene):
    """Two tables under load; `old_proxy` and `pg_proxy` carry everything of the worker."""

    def __init__(self, old, pg, folder, name):
        super().__init__(old, pg, folder, name)
        self.old_proxy, self.pg_proxy = Proxy(old.port), Proxy(pg.port)
        self.old_port = self.old_proxy.port

    def run_worker(self, name="worker", **options):
        return super().run_worker(name, port=self.pg_proxy.port, **options)

    def load(self, **options):
        return Load(lambda **o: self.app(**o), **options)

    def swap_worker(self, failpoint=None):
        """Stops the worker cleanly and starts it again with another failpoint."""
        self.worker.stop()
        self.worker.failpoint = failpoint
        self.worker.start()
        return self.worker

    def epoch(self):
        return self.value("SELECT max(epoch) FROM tandem.lease")

    def deadlocks(self):
        """Deadlocks in PostgreSQL so far. The server's log tells of those only in which a client was the victim: apply handles its own."""
        return self.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

    def restart_old(self):
        self.old.kill()
        self.old.start()

    def stop_pg_hard(self):
        self.pg.stop("immediate")
        self.pg.start()

    def crashes(self):
        """How often PostgreSQL has noticed so far that one of its processes was killed."""
        return self.pg.log_text().count("was terminated by signal 9")

    def wait_pg_back(self, crashes_before):
        """After a crash of one of its processes PostgreSQL starts itself again; until it has noticed, it still answers as before."""
        def answers():
            try:
                return self.crashes() > crashes_before and self.value("SELECT NOT pg_is_in_recovery()")
            except psycopg2.OperationalError:
                return False
        wait_until(answers, 60, 0.1, "PostgreSQL to come back")

    def close(self):
        # Its servers go with it: nothing needs to be dropped.
        for worker in self.workers:
            if worker.running():
                worker.thaw()
                worker.kill()
        self.old_proxy.close()
        self.pg_proxy.close()


def make_scene(request, folder, flavor, settings=None, add=True, schema=SCHEMA):
    """`settings` of PostgreSQL, and those of the marker `settings`."""
    number = next(_numbers)
    home = folder / f"fault{number}"
    home.mkdir()
    if request.node.get_closest_marker("on_disk"):
        disk = process.Folder("tandem-disk-", "/var/tmp")
        request.addfinalizer(disk.remove)
        old = mysql.server(flavor, disk.path).start()
    else:
        old = mysql.server(flavor, home).start()
    marker = request.node.get_closest_marker("settings")
    pg = postgres.Postgres(home, settings={**SETTINGS, **(settings or {}), **(marker.args[0] if marker else {})}).start()
    scene = FaultScene(old, pg, home, "fault")

    def end():
        scene.close()
        pg.stop("immediate")
        old.kill()
        # Some 300 MB: a whole run of them would fill a disk. What a failed test leaves is kept to be looked at.
        if not getattr(request.node, "tandem_failed", False) and not os.environ.get("TANDEM_KEEP"):
            shutil.rmtree(home, ignore_errors=True)
    request.addfinalizer(end)
    scene.create(schema)
    scene.run_worker()
    scene.add_source()
    if add:
        scene.add_and_start("%")
    return scene


@pytest.fixture
def fault_scene(request, folder, flavor):
    """In sync, with a worker."""
    return make_scene(request, folder, flavor)


@pytest.fixture
def fresh_fault_scene(request, folder, flavor):
    """The same before any table is added."""
    return make_scene(request, folder, flavor, add=False)


@pytest.fixture
def bare_fault_scene(request, folder, flavor):
    """A source without tables: the test makes its own."""
    return make_scene(request, folder, flavor, add=False, schema=None)
