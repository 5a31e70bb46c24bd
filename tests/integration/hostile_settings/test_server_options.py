"""Old servers that are set up in other ways: binary logs of every format, names without case, serializable transactions."""
import pytest

from lib import mysql, tandem
from test_hostile_settings import write

ADD_ALL = False

OPTIONS = {
    "statement": ["--log-bin=log", "--server-id=1", "--binlog-format=STATEMENT", "--log-bin-trust-function-creators=1"],
    "row": ["--log-bin=log", "--server-id=1", "--binlog-format=ROW", "--log-bin-trust-function-creators=1", "--transaction-isolation=SERIALIZABLE"],
    "lower": ["--lower-case-table-names=1", "--innodb-autoinc-lock-mode=2", "--transaction-isolation=READ-COMMITTED", "--binlog-format=ROW"],
}
MIXED = """CREATE TABLE Mixed (Id INT NOT NULL PRIMARY KEY, Upper VARCHAR(20)) ENGINE=InnoDB;
CREATE TABLE MixedChild (Id INT NOT NULL PRIMARY KEY, Parent INT, FOREIGN KEY (Parent) REFERENCES Mixed (Id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB;
INSERT INTO Mixed VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO MixedChild VALUES (10, 1), (20, 2), (21, 2), (30, 3);
"""


@pytest.mark.parametrize("name", OPTIONS)
def test_options(request, pg, folder, flavor, name):
    old = mysql.server(flavor, folder, f"options-{flavor}-{name}", OPTIONS[name]).start()
    request.addfinalizer(old.kill)
    scene = tandem.Scene(old, pg, folder, "options")
    request.addfinalizer(scene.close)
    scene.create((request.path.parent / "schema.sql").read_text() + MIXED)
    # The documented rights and no others.
    for host in ("localhost", "127.0.0.1", "%"):
        old.query(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'tandem'@'{host}'")
        old.query(f"GRANT SELECT, TRIGGER ON `{scene.old_database}`.* TO 'tandem'@'{host}'")
        old.query(f"GRANT CREATE, DROP, SELECT, INSERT, DELETE ON `{scene.metadata}`.* TO 'tandem'@'{host}'")
    scene.run_worker()
    scene.add_source()
    scene.add_and_start("%")
    write(scene)
    scene.write("UPDATE Mixed SET Id = 7 WHERE Id = 1", "DELETE FROM Mixed WHERE Id = 2", "REPLACE INTO Mixed VALUES (3, 'again')", "UPDATE MixedChild SET Id = Id + 1")
    scene.check()
    write(scene)
    scene.check()
