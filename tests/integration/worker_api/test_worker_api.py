"""See README.md."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from lib import paths

WAIT = "SELECT w.acked, w.fenced, w.generation, w.requests, w.barrier FROM tandem.wait_events(1, %s, %s, %s) AS w"
PROMPT = 1.0  # seconds that count as "at once" on a busy machine


class Session:
    """One connection; `later` runs a query in a thread of its own and gives a future of (rows or error, seconds)."""

    def __init__(self, pg, database, threads):
        self.connection = pg.connect(database)
        self.threads = threads
        self.pid = self.connection.info.backend_pid

    def rows(self, sql, *parameters):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, *parameters):
        return self.rows(sql, *parameters)[0][0]

    def error(self, sql, *parameters):
        with pytest.raises(psycopg2.Error) as caught:
            self.rows(sql, *parameters)
        return caught.value

    def later(self, sql, *parameters):
        def work():
            started = time.monotonic()
            try:
                result = self.rows(sql, *parameters)
            except psycopg2.Error as error:
                result = error
            return result, time.monotonic() - started
        return self.threads.submit(work)

    def sleeps(self, dba):
        """Waits until this session sleeps in shared memory; returns its xmin (None: it holds back no vacuum)."""
        for _ in range(200):
            event, xmin = dba.rows("SELECT wait_event_type, backend_xmin FROM pg_stat_activity WHERE pid = %s", self.pid)[0]
            if event == "Extension":
                return xmin
            time.sleep(0.01)
        raise TimeoutError("the session does not sleep")


@pytest.fixture(scope="module")
def database(pg):
    pg.query("CREATE DATABASE worker_api")
    for statement in (
            "CREATE EXTENSION pg_tandem CASCADE",
            "CREATE SERVER old FOREIGN DATA WRAPPER mysql_fdw",
            "CREATE TABLE public.users (id integer PRIMARY KEY)",
            "INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('shop', 'old', 'shop', 'postgres')",
            "INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)"
            " VALUES (1, 'users', 'public.users', '{id}', '', '')",
            "SELECT tandem.start()",
            "UPDATE tandem.table_state SET state = 'syncing', backfill_done = true"):
        pg.query(statement, database="worker_api")
    return "worker_api"


@pytest.fixture
def session(pg, database):
    threads = ThreadPoolExecutor(32)
    opened = []

    def open_session(hello=False):
        made = Session(pg, database, threads)
        opened.append(made)
        if hello:
            made.rows("SELECT tandem.worker_hello(%s, 'test')", paths.VERSION)
        return made
    yield open_session
    for made in opened:
        made.connection.close()
    threads.shutdown()


def lead(worker):
    """A new epoch, and the generation of the configuration."""
    epoch = worker.value("SELECT tandem.acquire_lease(1, 'test')")
    return epoch, worker.rows(WAIT, epoch, 0, 0)[0][2]


def take_question(answerer):
    """It may return early without a question, after removing old answers."""
    for _ in range(5):
        taken = answerer.rows("SELECT question_id FROM tandem.next_question(10000)")
        if taken:
            return taken[0][0]
    raise TimeoutError("no question")


def test_one_of_many_gets_the_lease(session):
    dba, workers = session(), [session() for _ in range(8)]
    dba.rows("UPDATE tandem.lease SET expires_at = '-infinity'")
    before = dba.value("SELECT epoch FROM tandem.epoch")
    asked = [w.later("SELECT tandem.acquire_lease(1, %s)", f"worker {i}") for i, w in enumerate(workers)]
    epochs = [a.result()[0][0][0] for a in asked]
    won = [e for e in epochs if e is not None]
    assert len(won) == 1 and won[0] > before
    dba.rows("UPDATE tandem.lease SET expires_at = '-infinity'")


def test_wait_events_wakes(session):
    dba, worker = session(), session()
    epoch, generation = lead(worker)
    batch = (epoch << 32) + 1

    def woken_by(*statements):
        waiting = worker.later(WAIT, epoch, generation, 30000)
        assert worker.sleeps(dba) is None
        dba.rows("BEGIN; " + "; ".join(statements) + "; COMMIT")
        result, _ = waiting.result(PROMPT)
        return result[0]

    assert woken_by(f"SELECT tandem.submit_batch({batch}, 1, {epoch}, 0, 0, 0)")[0] == [batch]
    worker.rows("SELECT tandem.finish_batches(%s)", [batch])
    assert woken_by("INSERT INTO tandem.request (table_id, key_text, reason) VALUES (1, '{1}', 'test')", "SELECT tandem._requests_changed()")[3]
    worker.rows("SELECT tandem.finish_requests(ARRAY(SELECT request_id FROM tandem.take_requests(1, 9)))")
    changed = woken_by("UPDATE tandem.source SET tls = 'auto'")[2]
    assert changed > generation
    generation = changed
    assert woken_by("SELECT tandem._raise_barriers()")[4] > 0
    assert woken_by("SELECT tandem.acquire_lease(1, 'test')")[1]


def test_wait_events_keeps_quiet(session):
    """What is rolled back is not told, a barrier is told once, the timeout is kept, a cancel is heard."""
    dba, worker = session(), session()
    epoch, generation = lead(worker)
    dba.rows("SELECT tandem._raise_barriers()")
    worker.rows(WAIT, epoch, generation, 1000)
    waiting = worker.later(WAIT, epoch, generation, 500)
    dba.rows("BEGIN; UPDATE tandem.source SET tls = 'auto'; ROLLBACK")
    result, seconds = waiting.result()
    assert seconds >= 0.49 and result[0][:4] == ([], False, generation, False)
    waiting = worker.later(WAIT, epoch, generation, 30000)
    worker.sleeps(dba)
    worker.connection.cancel()
    assert waiting.result(PROMPT)[0].pgcode == "57014"


def test_questions(session):
    asker, answerer = session(), session(hello=True)
    asked = asker.later("SELECT tandem._ask('{\"kind\": \"ping\"}')")
    number = take_question(answerer)
    for row in range(3):
        assert answerer.value("SELECT tandem.answer(%s, %s, %s, %s)", number, row, json.dumps({"row": row}), row == 2)
    assert asked.result(PROMPT)[0] == [({"row": row},) for row in range(3)]

    asked = asker.later("SELECT tandem._ask('{}')")
    number = take_question(answerer)
    error = {"sqlstate": "42501", "message": "access denied", "detail": "who", "hint": "GRANT"}
    answerer.rows("SELECT tandem.answer(%s, 0, NULL, true, %s)", number, json.dumps(error))
    raised = asked.result(PROMPT)[0]
    assert (raised.pgcode, raised.diag.message_primary, raised.diag.message_detail, raised.diag.message_hint) == tuple(error.values())

    answerer.rows("SELECT tandem.next_question(0)")
    assert session().value("SELECT count(*) FROM tandem.answer") == 0


def test_many_questions_get_their_own_answers(session):
    answerers, askers = [session(hello=True) for _ in range(2)], [session() for _ in range(8)]

    def answer(answerer):
        while True:
            for number, question in answerer.rows("SELECT * FROM tandem.next_question(100)"):
                if question == {"n": "end"}:
                    answerer.rows("SELECT tandem.answer(%s, 0, NULL, true)", number)
                    return
                answerer.rows("SELECT tandem.answer(%s, 0, %s, true)", number, json.dumps(question))

    def ask(i):
        return all(askers[i].rows("SELECT tandem._ask(%s)", json.dumps({"n": [i, n]})) == [({"n": [i, n]},)] for n in range(10))

    with ThreadPoolExecutor(16) as pool:
        answering = [pool.submit(answer, a) for a in answerers]
        assert all(pool.map(ask, range(8)))
        for _ in answerers:
            askers[0].rows("SELECT tandem._ask('{\"n\": \"end\"}')")
        for done in answering:
            done.result(30)


def test_question_without_an_answer(session):
    dba, asker, answerer = session(), session(), session(hello=True)
    answerer.rows("SELECT tandem.next_question(0)")
    assert asker.error("SELECT tandem._ask('{}', interval '100 ms')").pgcode == "57014"

    asked = asker.later("SELECT tandem._ask('{}')")
    asker.sleeps(dba)
    asker.connection.cancel()
    assert asked.result(PROMPT)[0].pgcode == "57014"
    assert answerer.rows("SELECT * FROM tandem.next_question(0)") == []

    # The asker is gone when the answer comes.
    asked = asker.later("SELECT tandem._ask('{}')")
    number = take_question(answerer)
    dba.rows("SELECT pg_terminate_backend(%s)", asker.pid)
    assert asked.result(PROMPT)[0].pgcode in ("57P01", None)
    assert answerer.value("SELECT tandem.answer(%s, 0, '{}', true)", number) is False


def test_worker_vanishes(session):
    dba, asker, answerer = session(), session(), session(hello=True)
    asked = asker.later("SELECT tandem._ask('{}')")
    number = take_question(answerer)
    answerer.rows("SELECT tandem.answer(%s, 0, '{}', false)", number)
    dba.rows("SELECT pg_terminate_backend(%s)", answerer.pid)
    assert asked.result(PROMPT)[0].pgcode == "08006"

    # A session that takes the next question has given up the last one.
    answerer = session(hello=True)
    asked = asker.later("SELECT tandem._ask('{}')")
    take_question(answerer)
    answerer.rows("SELECT tandem.next_question(0)")
    assert asked.result(PROMPT)[0].pgcode == "08006"

    # The last one goes while the question waits.
    asked = asker.later("SELECT tandem._ask('{}')")
    asker.sleeps(dba)
    answerer.connection.close()
    assert asked.result(PROMPT + 1)[0].pgcode == "55000"


def test_wait_caught_up(session):
    dba, worker, waiter = session(), session(), session()
    epoch, generation = lead(worker)
    assert waiter.value("SELECT tandem.wait_caught_up('100 ms')") is False

    waiting = waiter.later("SELECT tandem.wait_caught_up()")
    assert waiter.sleeps(dba) is None
    barrier = worker.rows(WAIT, epoch, generation, 1000)[0][4]
    worker.rows("SELECT tandem.reached_barrier(1, %s, %s)", epoch, barrier)
    assert waiting.result(PROMPT)[0] == [(True,)]

    # Rows to be retried hold it up.
    dba.rows("INSERT INTO tandem.retry (table_id, key, op, sqlstate, message, next_attempt) VALUES (1, 'x', 'U', '55P03', '', 'infinity')")
    waiting = waiter.later("SELECT tandem.wait_caught_up()")
    waiter.sleeps(dba)
    worker.rows("SELECT tandem.reached_barrier(1, %s, %s)", epoch, worker.rows(WAIT, epoch, generation, 1000)[0][4])
    time.sleep(0.2)
    assert not waiting.done()
    dba.rows("DELETE FROM tandem.retry")
    # What they asked for when they were applied may be under way: a barrier that was reached while they waited does not count.
    barrier = worker.rows(WAIT, epoch, generation, 3000)[0][4]
    assert not waiting.done()
    worker.rows("SELECT tandem.reached_barrier(1, %s, %s)", epoch, barrier)
    assert waiting.result(PROMPT + 1)[0] == [(True,)]
