"""Where things are. TANDEM_BUILD names another build folder (as BUILD does for make)."""
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TANDEM_BUILD", ROOT / "build")).resolve()
STAGE = BUILD / "stage"  # `make install DESTDIR=…` of both halves
PG_BIN = Path(os.environ.get("TANDEM_PG_BIN", "/usr/lib/postgresql/15/bin"))
VERSION = json.loads((ROOT / "META.json").read_text())["version"]


def mysql56_home():
    """Folder with mysqld and share/ of MySQL 5.6 (scripts/packages fetches it), or None if told to do without."""
    named = os.environ.get("TANDEM_MYSQL56")
    if named == "no":
        return None
    home = Path(named) if named else BUILD / "cache" / "mysql-5.6"
    if not (home / "mysqld").exists():
        raise RuntimeError(f"no MySQL 5.6 in {home}: run scripts/packages test (or set TANDEM_MYSQL56=no to do without)")
    return home


def worker_binary():
    """The staged program; copied nowhere, it needs no other user."""
    for candidate in (STAGE / "usr/bin/tandem-sync", STAGE / "usr/local/bin/tandem-sync", BUILD / "worker" / "tandem-sync"):
        if candidate.exists():
            return candidate
    raise RuntimeError(f"no tandem-sync under {BUILD}: run make first")


def long_version():
    """TANDEM_LONG=1: the tests that can take longer do."""
    return os.environ.get("TANDEM_LONG", "") not in ("", "0", "no")
