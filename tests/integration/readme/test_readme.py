"""See README.md."""
import re
import subprocess

import pytest

from lib import mysql, paths, tandem

README = (paths.ROOT / "README.md").read_text()
TABLES = """CREATE TABLE users (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(80), is_admin TINYINT(1) NOT NULL DEFAULT 0) ENGINE=InnoDB;
CREATE TABLE orders (user INT NOT NULL, no INT NOT NULL, total DECIMAL(10,2), PRIMARY KEY (user, no), FOREIGN KEY (user) REFERENCES users (id) ON DELETE CASCADE) ENGINE=InnoDB;
INSERT INTO users (email, is_admin) VALUES ('a@example.org', 1), ('b@example.org', 0);
INSERT INTO orders VALUES (1, 1, 9.99), (1, 2, 0.01), (2, 1, 5);
"""


def blocks():
    """The code blocks, as (language, text without its indentation)."""
    found, language = [], None
    for line in README.splitlines():
        fence = re.match(r"( *)```(\w*)$", line)
        if fence and language is None:
            indent, language, lines = len(fence[1]), fence[2], []
        elif fence:
            found.append((language, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line[indent:])
    return found


def block(beginning):
    return next(text for _, text in blocks() if text.lstrip().startswith(beginning))


@pytest.fixture
def fresh_old(request, folder, flavor):
    server = mysql.server(flavor, folder, f"{request.function.__name__}-{flavor}").start()
    yield server
    server.kill()


@pytest.fixture
def scene(fresh_old, pg, folder):
    made = tandem.Scene(fresh_old, pg, folder, "readme")
    made.old_database, made.metadata = "shop", "tandem"
    try:
        fresh_old.query("CREATE DATABASE shop CHARACTER SET utf8mb4")
        fresh_old.script(TABLES, "shop")
        pg.query(f'CREATE DATABASE "{made.database}"')
        yield made
    finally:
        made.close_new_side()
        pg.query("DROP ROLE IF EXISTS tandem_sync")


def test_first_screen(scene, pg, tmp_path):
    secret = mysql.TANDEM_PASSWORD
    scene.old.script(re.sub(r" +--.*", "", block("CREATE DATABASE tandem")).replace("…", secret))

    screen = block("CREATE EXTENSION").replace("host 'db1', port '3306'", f"host '127.0.0.1', port '{scene.old.port}'").replace("password '…'", f"password '{secret}'")
    before, _, after = screen.partition("-- tandem-sync run")

    def paste(text):
        file = tmp_path / "screen.sql"
        file.write_text(text)
        file.chmod(0o644)
        return pg.program("psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", scene.database, "-f", str(file)).decode()

    paste(before)
    pg.query("CREATE ROLE tandem_sync LOGIN", database=scene.database)
    pg.query("GRANT tandem_worker TO tandem_sync", database=scene.database)

    check, run = (line for line in block("tandem-sync check").splitlines() if line.startswith("tandem-sync"))
    conninfo = pg.conninfo(scene.database, "tandem_sync")
    words = re.sub(r"--postgres '[^']*'", "", check).split()[1:]
    done = subprocess.run([str(paths.worker_binary()), *words, "--postgres", conninfo], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0 and "MISSING" not in done.stdout, done.stdout

    assert run.split()[1] == "run"
    scene.workers.append(tandem.Worker(PgAs(pg, "tandem_sync"), scene.database, scene.folder).start())
    scene.wait_worker()
    shown = paste("--" + after)
    assert re.search(r"shop +\| users +\| syncing", shown), shown
    scene.old.query("UPDATE users SET email = 'c@example.org' WHERE id = 2", database="shop")
    scene.old.query("DELETE FROM users WHERE id = 1", database="shop")
    scene.check()


class PgAs:
    """The server with another user in its connection strings."""

    def __init__(self, pg, user):
        self.pg, self.user = pg, user

    def conninfo(self, database, port=None):
        return self.pg.conninfo(database, self.user, port)


def test_documented_statements_about_targets(scene):
    """The example of `columns` is for a table as it describes it."""
    example = next(text for _, text in blocks() if "app.people" in text)
    scene.metadata = "tandem"
    scene.old.query("CREATE DATABASE tandem")
    scene.old.create_users("shop", "tandem")
    scene.sql("CREATE EXTENSION pg_tandem CASCADE")
    scene.run_worker()
    scene.add_source()
    scene.sql("CREATE SCHEMA app")
    scene.sql("CREATE TABLE app.people (id integer PRIMARY KEY, email_address text, is_admin boolean NOT NULL)")
    scene.sql(example.strip())
    scene.sql("SELECT tandem.start('users')")
    scene.wait_caught_up()
    scene.old.query("UPDATE users SET is_admin = 1 - is_admin", database="shop")
    scene.check(mapping=[{"source": "users", "target": "app.people", "key": ["id"], "columns": [
        {"source": "id", "target": "id"}, {"source": "email", "target": "email_address"}, {"sql": "is_admin <> 0", "target": "is_admin", "kind": "bool"}]}])
