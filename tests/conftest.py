"""Servers and scenes of the integration and fault tests. Servers are private to this run; what they wrote is kept when a test fails."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import mysql, postgres, process, tandem  # noqa: E402


def flavors():
    """TANDEM_FLAVORS=mariadb runs one old server only; TANDEM_MYSQL56=no does without MySQL 5.6."""
    chosen = os.environ.get("TANDEM_FLAVORS", ",".join(mysql.FLAVORS)).split(",")
    return [f for f in chosen if f != "mysql56" or os.environ.get("TANDEM_MYSQL56") != "no"]


def pytest_configure(config):
    config.addinivalue_line("markers", "settings(dict): settings of PostgreSQL for a fault test")
    config.addinivalue_line("markers", "on_disk: a fault test whose old server must not have its files in memory")


def pytest_collection_modifyitems(config, items):
    """TANDEM_SHARD=1/2 runs every second file, from the first."""
    shard = os.environ.get("TANDEM_SHARD")
    if not shard:
        return
    number, shards = map(int, shard.split("/"))
    files = sorted({item.path for item in items})
    mine = set(files[number - 1 :: shards])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.session.tandem_failed = item.tandem_failed = True
        for name, value in item.funcargs.items():
            if isinstance(value, tandem.Scene):
                report.sections.append(("scene", value.story()))


@pytest.fixture(scope="session")
def folder(request):
    made = process.Folder("tandem-test-")
    yield made.path
    if getattr(request.session, "tandem_failed", False) or os.environ.get("TANDEM_KEEP"):
        print(f"\nserver and worker logs are kept in {made.path}")
    else:
        made.remove()


@pytest.fixture(scope="session")
def pg(folder):
    server = postgres.Postgres(folder).start()
    yield server
    server.stop("immediate")


@pytest.fixture(scope="session")
def bare_pg(folder):
    """PostgreSQL without the product, for tests of the harness itself."""
    server = postgres.Postgres(folder, "bare", preload=False).start()
    yield server
    server.stop("immediate")


@pytest.fixture(scope="session", params=flavors())
def flavor(request):
    return request.param


_old_servers = {}


@pytest.fixture(scope="session")
def old(folder, flavor):
    if flavor not in _old_servers:
        _old_servers[flavor] = mysql.server(flavor, folder).start()
    return _old_servers[flavor]


def pytest_sessionfinish(session):
    for server in _old_servers.values():
        server.kill()


def _schema(request):
    schema = request.path.parent / "schema.sql"
    return schema.read_text() if schema.exists() else None


@pytest.fixture(scope="module")
def scene(request, old, pg, folder):
    """Both databases, the source, every table of schema.sql added and in sync, one worker. Shared by the tests of a module."""
    made = tandem.Scene(old, pg, folder, request.path.stem.removeprefix("test_"))
    try:
        made.create(_schema(request))
        made.run_worker()
        made.add_source()
        if getattr(request.module, "ADD_ALL", True):
            made.add_and_start("%")
        yield made
    finally:
        made.close()


@pytest.fixture
def empty_scene(request, old, pg, folder):
    """Both databases with schema.sql on the old side, extension and worker; no source yet. For one test."""
    made = tandem.Scene(old, pg, folder, request.path.stem.removeprefix("test_"))
    try:
        made.create(_schema(request))
        made.run_worker()
        yield made
    finally:
        made.close()
