"""A scene: an old database, a new database, the source between them and a worker. Only sugar over the SQL that a DBA would type."""
import itertools

import psycopg2
import pymysql

from . import compare, mysql
from .process import wait_until
from .worker import Worker

_numbers = itertools.count(1)


class Scene:
    def __init__(self, old, pg, folder, name):
        self.old, self.pg, self.folder = old, pg, folder
        number = next(_numbers)
        self.database = f"{name}_{number}"[:40]
        self.old_database = self.database
        self.metadata = f"tandem_{number}"
        self.workers = []
        self.old_port = old.port  # a test may put a proxy here before add_source

    # --- building it up -----------------------------------------------------------------------------------------------------------
    def create(self, schema=None, extension=True):
        self.old.query(f"CREATE DATABASE `{self.old_database}` CHARACTER SET utf8mb4")
        self.old.query(f"CREATE DATABASE `{self.metadata}` CHARACTER SET utf8mb4")
        self.old.create_users(self.old_database, self.metadata)
        if schema:
            self.old.script(schema, self.old_database)
        self.pg.query(f'CREATE DATABASE "{self.database}"')
        if extension:
            self.sql("CREATE EXTENSION pg_tandem CASCADE")

    def run_worker(self, name="worker", **options):
        worker = Worker(self.pg, self.database, self.folder, name=name, **options).start()
        self.workers.append(worker)
        return worker

    @property
    def worker(self):
        return self.workers[0]

    def create_server(self, name="old", password=mysql.TANDEM_PASSWORD, host="127.0.0.1", **options):
        extra = "".join(f", {key} '{value}'" for key, value in options.items())
        self.sql(f"CREATE SERVER {name} FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host '{host}', port '{self.old_port}'{extra})")
        self.sql(f"CREATE USER MAPPING FOR postgres SERVER {name} OPTIONS (username 'tandem', password '{password}')")

    def add_source(self, server=True, **arguments):
        if server:
            self.create_server()
        given = {"metadata_database": self.metadata, **arguments}
        more = "".join(f", {name} => %({name})s" for name in given)
        # Questions need a worker that has connected; the first call of a scene may come before it has.
        self.wait_worker()
        self.sql(f"SELECT tandem.add_source('shop', 'old', %(db)s{more})", {"db": self.old_database, **given})

    def wait_worker(self):
        wait_until(self._worker_answers, 30, 0.1, "a worker that answers questions")

    def _worker_answers(self):
        for worker in self.workers:
            if not worker.running():
                raise RuntimeError(f"tandem-sync ended with {worker.child.returncode}:\n{worker.log_text()[-3000:]}")
        try:
            self.sql("""SELECT * FROM tandem._ask('{"kind": "ping"}', '1 s')""")
            return True
        except psycopg2.Error as error:
            if error.pgcode not in ("55000", "57014", "08000", "08001", "08006"):
                raise
            return False

    def add_and_start(self, pattern="%", wait=True):
        self.sql("SELECT tandem.add_tables('shop', %s)", (pattern,))
        self.start_all()
        if wait:
            self.wait_caught_up()

    def add_table(self, table, **arguments):
        more = "".join(f", {name} => %({name})s" for name in arguments)
        self.sql(f"SELECT tandem.add_table('shop', %(table)s{more})", {"table": table, **arguments})

    def start_all(self):
        """In one call: tables that cascade into each other must be started together."""
        self.sql("SELECT tandem.start()")

    # --- SQL on the new side ------------------------------------------------------------------------------------------------------
    def sql(self, statement, parameters=None):
        return self.pg.query(statement, parameters, self.database)

    def value(self, statement, parameters=None):
        return self.sql(statement, parameters)[0][0]

    def wait_caught_up(self, timeout=60):
        reached = self.value("SELECT tandem.wait_caught_up(%s::interval)", (f"{timeout} s",))
        assert reached, f"not caught up after {timeout} s\n{self.story()}"

    def states(self):
        return dict(self.sql("SELECT t.name, coalesce(s.state, 'registered') || coalesce(': ' || s.reason, '')"
                             " FROM tandem.source_table t LEFT JOIN tandem.table_state s USING (table_id) ORDER BY 1"))

    def wait_state(self, table, state, timeout=30):
        wait_until(lambda: self.states().get(table, "gone").split(":")[0] == state, timeout, 0.1, f"{table} to be {state}")

    def dead_letters(self):
        return self.sql("SELECT t.name, d.sqlstate, d.message FROM tandem.dead_letter d JOIN tandem.source_table t USING (table_id) ORDER BY 1, 2, 3")

    # --- the old side -------------------------------------------------------------------------------------------------------------
    def app(self, **options):
        """A connection of the application's user, who has no right on the metadata database."""
        return self.old.app(self.old_database, **options)

    def write(self, *statements):
        """Statements of the application, each in its own transaction. Beside other writers a statement may lose a deadlock; then it is tried again
        as any application does, unless capture had a part in it."""
        connection = self.app()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    for _ in range(20):
                        try:
                            cursor.execute(statement)
                            break
                        except pymysql.err.OperationalError as error:
                            if error.args[0] != 1213:
                                raise
                            assert "_outbox_" not in self.last_deadlock(), self.last_deadlock()
                    else:
                        raise RuntimeError(f"20 deadlocks: {statement[:200]}")
        finally:
            connection.close()

    def last_deadlock(self):
        """What InnoDB says about the locks of the last deadlock."""
        status = self.old.query("SHOW ENGINE INNODB STATUS")[0][2]
        part = status.partition("LATEST DETECTED DEADLOCK")[2].partition("\nTRANSACTIONS\n")[0]
        return "\n".join(line for line in part.splitlines() if "LOCK" in line or "WAITING" in line)

    def old_value(self, statement):
        return self.old.value(statement, database=self.old_database)

    def outbox_rows(self):
        """Rows left in all outboxes (not counting the gap table)."""
        total = 0
        for (name,) in self.sql("SELECT outbox FROM tandem.source_table"):
            quoted = name.replace("`", "``")
            total += self.old.value(f"SELECT count(*) FROM `{self.metadata}`.`{quoted}`")
        return total

    def gaps(self):
        return self.old.value(f"SELECT count(*) FROM `{self.metadata}`.capture_gap")

    # --- the end of every test ----------------------------------------------------------------------------------------------------
    def differences(self, tables=None, mapping=None):
        """Every table of the old database (or `tables`, or an explicit mapping) against the new one, by compare.py."""
        old = compare.raw_mysql(user="root", unix_socket=str(self.old.socket))
        new = self.pg.connect(self.database, autocommit=False)
        try:
            comparison = compare.Comparison(old, self.old_database, new)
            plan = mapping or compare.all_tables(comparison, names=tables)
            assert plan, "nothing to compare"
            return [difference for table in plan for difference in comparison.compare(table).differences]
        finally:
            old.close()
            new.close()

    def check(self, timeout=60, tables=None, mapping=None, dead_letters=0):
        """Caught up, no gap, no unexpected dead letter, an empty outbox, and equal."""
        self.wait_caught_up(timeout)
        found = self.dead_letters()
        assert len(found) == dead_letters, f"dead letters: {found}"
        assert self.gaps() == 0
        different = self.differences(tables, mapping)
        assert not different, f"{len(different)} differences:\n" + "\n".join(str(d) for d in different[:30])
        # Acknowledged and deleted by exact id; the deletion follows the apply, so it may take a moment.
        wait_until(lambda: self.outbox_rows() == 0, 20, 0.1, "the outboxes to be empty")

    def story(self):
        """What a failed test shows."""
        lines = [f"database {self.database}, old side {self.old.flavor} port {self.old.port}, PostgreSQL port {self.pg.port}"]
        for title, question in (("states", self.states), ("dead letters", self.dead_letters),
                                ("retry", lambda: self.sql("SELECT table_id, op, attempts, sqlstate, message FROM tandem.retry LIMIT 10")),
                                ("lease", lambda: self.sql("SELECT * FROM tandem.lease")),
                                ("batches", lambda: self.sql("SELECT batch_id, epoch, rows, backfill FROM tandem.batch LIMIT 10"))):
            try:
                lines.append(f"{title}: {question()}")
            except Exception as error:  # the story of a broken scene must still be told
                lines.append(f"{title}: {error}")
        for worker in self.workers:
            lines.append(f"--- {worker.log}\n{worker.log_text()[-2500:]}")
        lines.append(f"--- {self.pg.log}\n{self.pg.log_text()[-2500:]}")
        return "\n".join(lines)

    def close(self):
        self.close_new_side()
        if self.old.running():
            # A test that failed may have left a transaction open, which the DROP would wait for.
            self.old.end_sessions(self.old_database)
            self.old.query(f"DROP DATABASE IF EXISTS `{self.old_database}`")
            self.old.query(f"DROP DATABASE IF EXISTS `{self.metadata}`")

    def close_new_side(self):
        for worker in self.workers:
            if worker.running():
                worker.thaw()
                worker.kill()
        # The session's servers are shared: an apply worker and a background slot per database would pile up.
        if self.pg.running():
            try:
                self.sql("DROP EXTENSION IF EXISTS pg_tandem CASCADE")
            finally:
                self.pg.query(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
