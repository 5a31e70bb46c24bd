import pytest

from lib import tandem


class Settings:
    """Settings of the shared PostgreSQL server, taken back at the end of the test."""

    def __init__(self, pg):
        self.pg, self.names = pg, set()

    def set(self, **values):
        for name, value in values.items():
            self.names.add(name)
            self.pg.query(f"ALTER SYSTEM SET tandem.{name} = '{value}'")
        self.pg.query("SELECT pg_reload_conf()")

    def reset(self):
        for name in self.names:
            self.pg.query(f"ALTER SYSTEM RESET tandem.{name}")
        self.pg.query("SELECT pg_reload_conf()")


@pytest.fixture
def settings(pg):
    """Every table is copied directly, however small; nothing makes way."""
    made = Settings(pg)
    made.set(backfill_direct_rows=0, backfill_yield=0)
    yield made
    made.reset()


@pytest.fixture
def direct_scene(request, old, pg, folder, settings):
    """Both databases and the extension, tables copied directly; the test starts the worker."""
    made = tandem.Scene(old, pg, folder, "backfill")
    try:
        made.create()
        yield made
    finally:
        made.close()
