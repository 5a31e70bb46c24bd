"""A kill at every step of cut-over and rollback, an error after the commit, two coordinators, a cut network: one truth at every moment (I9), nothing
acknowledged is lost, and what is half-done is put back or finished by the worker that starts next."""
import os
import threading
import time

import psycopg2
import pytest

from lib import dual
from lib.process import wait_until

from conftest import make_scene

TABLES = ["shop.ledger", "shop.counter"]
WAIVE = '{"clean_pass": "by the test", "divergence": "by the test"}'
CUTOVER = ["after_compare", "after_begin", "after_lock", "after_drain", "after_verify", "in_fence", "after_fence", "before_commit", "after_commit", "after_unlock"]
ROLLBACK = ["after_close", "before_commit", "after_commit", "after_bump", "in_unfence"]


@pytest.fixture
def pair(request, folder, flavor):
    scene = make_scene(request, folder, flavor, add=False)
    scene.old.script(dual.SCHEMA, scene.old_database)
    scene.write("INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0)")
    scene.sql("SELECT tandem.add_tables('shop', 'ledger'), tandem.add_tables('shop', 'counter')")
    scene.start_all()
    scene.wait_caught_up()
    scene.sql("SELECT tandem.set_phase(%s, 'ready')", (TABLES,))
    return scene


class Call(threading.Thread):
    """A CALL of the DBA in a thread of its own; `error` is how it ended."""

    def __init__(self, scene, procedure, **options):
        super().__init__(daemon=True)
        self.scene, self.procedure, self.options, self.error = scene, procedure, options, None
        self.start()

    def run(self):
        try:
            self.scene.sql(f"CALL tandem.{self.procedure}(%s, max_pause => '15 s', lock_wait => '20 s', waive => %s)", (TABLES, WAIVE))
        except psycopg2.Error as error:
            self.error = error

    def end(self, timeout=90):
        self.join(timeout)
        assert not self.is_alive(), f"{self.procedure} does not end\n{self.scene.story()}"
        return self.error


def phases(scene):
    return {row[0] for row in scene.sql("SELECT phase FROM tandem.phase WHERE table_id IN (SELECT table_id FROM tandem.source_table WHERE name IN ('ledger', 'counter'))")}


def settled(scene):
    """All tables in one settled phase, and the old side as that phase wants it."""
    found = phases(scene)
    if len(found) != 1 or not found <= {"ready", "new_primary"}:
        return False
    fences = scene.old.value("SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = %s AND trigger_name LIKE 'tandem\\_f%%'", (scene.old_database,))
    return fences == (6 if found == {"new_primary"} else 0)


def finish(scene, clients):
    wait_until(lambda: settled(scene), 60, 0.1, "one side to be the truth, with or without fence")
    clients.wait(60)
    side = "new" if phases(scene) == {"new_primary"} else "old"
    return side


def check(scene, clients, side):
    clients.check(side)
    if side == "new":
        wait_until(lambda: scene.value("SELECT count(*) FROM tandem.reverse_outbox") == 0, 60, 0.1, "the old side to follow")
    else:
        scene.wait_caught_up()
    clients.check("old")
    clients.check("new")
    assert not scene.differences(["ledger", "counter"])
    assert scene.sql("SELECT * FROM tandem.doctor()") == []


@pytest.mark.parametrize("step", CUTOVER)
def test_killed_in_cutover(pair, step):
    with dual.Clients(pair) as clients:
        clients.wait(60)
        worker = pair.swap_worker(f"cutover:{step}=kill")
        worker.wait_leader()
        call = Call(pair, "cutover")
        assert worker.wait_end() == -9
        worker.failpoint = None
        worker.start()
        error = call.end()
        side = finish(pair, clients)
        assert side == ("new" if step in ("after_commit", "after_unlock") else "old")
        assert (error is None) == (side == "new")
    check(pair, clients, side)


@pytest.mark.parametrize("step", ROLLBACK)
def test_killed_in_rollback(pair, step):
    with dual.Clients(pair) as clients:
        clients.wait(60)
        assert Call(pair, "cutover").end() is None
        clients.wait(60)
        worker = pair.swap_worker(f"rollback:{step}=kill")
        worker.wait_leader()
        call = Call(pair, "rollback")
        assert worker.wait_end() == -9
        worker.failpoint = None
        worker.start()
        error = call.end()
        side = finish(pair, clients)
        assert side == ("new" if step in ("after_close", "before_commit") else "old")
        assert (error is None) == (side == "old")
    check(pair, clients, side)


@pytest.mark.parametrize("step", ["after_read", "after_write", "after_done"])
def test_killed_in_reverse_sync(pair, step):
    with dual.Clients(pair) as clients:
        clients.wait(30)
        assert Call(pair, "cutover").end() is None
        worker = pair.swap_worker(f"reverse:{step}:3=kill")
        assert worker.wait_end() == -9
        worker.failpoint = None
        worker.start()
        clients.wait(60)
    check(pair, clients, "new")


def test_error_after_the_commit(pair):
    """The coordinator believes that it failed: the commit has happened, so only forward."""
    with dual.Clients(pair) as clients:
        clients.wait(30)
        pair.swap_worker("cutover:after_commit=error").wait_leader()
        Call(pair, "cutover").end()
        assert finish(pair, clients) == "new"
    check(pair, clients, "new")


@pytest.mark.parametrize("step", ["after_begin", "after_lock", "after_fence", "before_commit"])
def test_two_coordinators(pair, step):
    """The first one is held at a step; another worker leads, puts back, and the first must not commit when it wakes up."""
    with dual.Clients(pair, faults=True) as clients:
        clients.wait(30)
        first = pair.swap_worker(f"cutover:{step}=stop")
        first.wait_leader()
        second = pair.run_worker("second")
        call = Call(pair, "cutover")
        wait_until(first.stopped, 60, 0.05, "the first coordinator to be held")
        wait_until(lambda: phases(pair) == {"ready"}, 60, 0.1, "the second worker to put the phase back")
        first.thaw()
        call.end()
        assert finish(pair, clients) == "old"
        first.stop()
        assert second.running()
    check(pair, clients, "old")


def test_row_that_differs_in_the_pause(pair):
    """It changed after the comparison before the pause, and somebody spoils it when everything is drained: the cut-over is given up, no client sees an error."""
    with dual.Clients(pair) as clients:
        clients.wait(30)
        pair.swap_worker("cutover:after_drain=sleep(1000)").wait_leader()
        call = Call(pair, "cutover")
        wait_until(lambda: phases(pair) == {"cutover"}, 30, 0.02, "the attempt")
        while call.is_alive():  # what comes before the end of the drain is mended by it
            pair.sql("SET session_replication_role = replica; UPDATE counter SET v = -1; RESET session_replication_role")
            time.sleep(0.05)
        error = call.end()
        assert "of table \"counter\" that changed since the last pass differ" in str(error), error
        assert phases(pair) == {"ready"}
        clients.wait(60)  # mends all of them
        assert finish(pair, clients) == "old"
    check(pair, clients, "old")


HARMS = {
    "truncated": ["TRUNCATE TABLE counter"],
    "uncaptured": ["DROP TRIGGER tandem_au_{suffix}", "UPDATE counter SET v = 77"],
}


@pytest.mark.parametrize("step", ["after_compare", "after_begin"])
@pytest.mark.parametrize("harm", HARMS)
def test_capture_lost_at_the_last_moment(pair, harm, step):
    """What no trigger has told, and the guard has not seen yet, is seen under the lock: the cut-over is given up, and the table copied anew."""
    suffix = pair.value("SELECT trigger_suffix FROM tandem.source_table WHERE name = 'counter'")
    pair.swap_worker(f"cutover:{step}=sleep(1500)").wait_leader()
    call = Call(pair, "cutover")
    if step == "after_begin":
        wait_until(lambda: phases(pair) == {"cutover"}, 30, 0.02, "the attempt")
    else:
        wait_until(lambda: pair.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%%verify%%'"), 30, 0.02, "the comparison")
        time.sleep(0.3)
    time.sleep(0.5)
    for statement in HARMS[harm]:
        pair.old.query(statement.format(suffix=suffix), database=pair.old_database)
    error = call.end()
    assert error is not None and "counter" in str(error) and phases(pair) == {"ready"}, error
    wait_until(lambda: pair.states()["counter"] == "syncing" and pair.value("SELECT count(*) FROM tandem.resyncs WHERE finished_at IS NOT NULL") > 0, 60, 0.1, "the table to be copied anew")
    assert not pair.differences(["ledger", "counter"])
    assert Call(pair, "cutover").end() is None
    assert not pair.differences(["ledger", "counter"])


def test_cancelled(pair):
    """The DBA's Ctrl-C is the end of the attempt, not only of watching it."""
    with dual.Clients(pair) as clients:
        clients.wait(30)
        for step in ("after_compare", "after_begin", "after_drain"):
            worker = pair.swap_worker(f"cutover:{step}=sleep(1000)")
            worker.wait_leader()
            call = Call(pair, "cutover")
            wait_until(lambda: pair.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%%verify%%'"), 30, 0.02, "the comparison")
            time.sleep(0.5)
            pair.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL tandem.cutover%%' AND pid <> pg_backend_pid()")
            assert call.end().pgcode == "57014"
            wait_until(lambda: pair.value("SELECT state FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") == "failed", 30, 0.05, "the run to end")
            assert "cancel" in pair.value("SELECT error FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
            wait_until(lambda: phases(pair) == {"ready"}, 10, 0.05, "the phase")
            clients.wait(30)
        assert finish(pair, clients) == "old"
    check(pair, clients, "old")


def test_old_server_killed_under_the_lock(pair):
    with dual.Clients(pair, faults=True) as clients:
        clients.wait(30)
        pair.swap_worker("cutover:after_fence=sleep(1500)").wait_leader()
        call = Call(pair, "cutover")
        wait_until(lambda: phases(pair) == {"cutover"}, 30, 0.02, "the attempt")
        pair.restart_old()
        assert call.end() is not None
        assert finish(pair, clients) == "old"
    check(pair, clients, "old")


def test_reply_to_the_commit_is_lost(pair):
    """The new side has committed, the coordinator does not hear of it: only forward."""
    with dual.Clients(pair) as clients:
        clients.wait(30)
        pair.pg_proxy.lose_reply(b"tandem.cutover_commit")
        Call(pair, "cutover")
        assert pair.pg_proxy.lost.wait(60)
        wait_until(lambda: phases(pair) == {"new_primary"}, 30, 0.02, "the commit")
        pair.pg_proxy.cut()
        time.sleep(0.5)
        pair.pg_proxy.restore()
        assert finish(pair, clients) == "new"
    check(pair, clients, "new")


def test_the_commit_comes_late(pair):
    """The request to commit hangs in the network and arrives when the coordinator has given it up: it must not count any more."""
    with dual.Clients(pair, faults=True) as clients:
        clients.wait(30)
        pair.pg_proxy.hold_request(b"tandem.cutover_commit")
        call = Call(pair, "cutover")
        assert pair.pg_proxy.held.wait(60)
        assert phases(pair) == {"cutover"}
        second = pair.run_worker("second")
        pair.worker.freeze()
        wait_until(lambda: phases(pair) == {"ready"}, 60, 0.1, "the second worker to put the phase back")
        pair.pg_proxy.restore()
        pair.worker.thaw()
        call.end()
        assert finish(pair, clients) == "old"
        pair.worker.stop()
        assert second.running()
    check(pair, clients, "old")


@pytest.mark.parametrize("request_bytes", [b"LOCK TABLES", b"CREATE TRIGGER", b"UNLOCK TABLES"])
def test_old_side_is_cut_off(pair, request_bytes):
    """What holds the lock is gone with its connection; whatever of a fence is there is taken away, or completed if the new side has committed."""
    with dual.Clients(pair, faults=True) as clients:
        clients.wait(30)
        pair.old_proxy.hold_request(request_bytes)
        call = Call(pair, "cutover")
        assert pair.old_proxy.held.wait(60)
        pair.old_proxy.cut()
        time.sleep(0.5)
        pair.old_proxy.restore()
        error = call.end()
        side = finish(pair, clients)
        assert side == ("new" if request_bytes == b"UNLOCK TABLES" else "old") and (side == "new" or error is not None), error
    check(pair, clients, side)


def test_postgres_stopped_before_the_commit(pair):
    with dual.Clients(pair, faults=True) as clients:
        clients.wait(30)
        pair.swap_worker("cutover:before_commit=sleep(1000)").wait_leader()
        call = Call(pair, "cutover")
        wait_until(lambda: phases(pair) == {"cutover"}, 30, 0.02, "the attempt")
        pair.stop_pg_hard()
        assert call.end() is not None
        wait_until(lambda: settled(pair), 60, 0.2, "one truth")
        side = finish(pair, clients)
    check(pair, clients, side)


@pytest.mark.settings({"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "0", "bgwriter_delay": "10s"})
def test_new_side_seen_before_it_is_on_disk(pair):
    """With synchronous_commit = off the new side loses its last commits in a crash; the old side must not have got them."""
    assert Call(pair, "cutover").end() is None
    pair.sql("INSERT INTO ledger VALUES (1, 1, 'kept')")
    wait_until(lambda: pair.value("SELECT count(*) FROM tandem.reverse_outbox") == 0, 30, 0.05, "the old side to follow")
    pair.swap_worker("reverse:after_write=stop").wait_leader()
    time.sleep(2)  # what the worker commits when it starts would flush the log for us
    pair.sql("INSERT INTO ledger VALUES (1, 2, 'soft'); UPDATE ledger SET note = 'soft' WHERE no = 1")
    wait_until(pair.worker.stopped, 30, 0.05, "the rows to be written to the old side")
    assert pair.old_value("SELECT COUNT(*) FROM ledger WHERE note = 'soft'") == 2
    pair.stop_pg_hard()
    pair.worker.kill()
    pair.worker.failpoint = None
    pair.worker.start().wait_leader()
    wait_until(lambda: pair.value("SELECT count(*) FROM tandem.reverse_outbox") == 0, 60, 0.1, "the old side to follow")
    assert not pair.differences(["ledger", "counter"])


def test_back_and_forth(pair):
    """Under load, as often as wanted: after each change the sides are equal and every acknowledged write is on the truth. TANDEM_LONG: 50 rounds."""
    rounds = 50 if os.environ.get("TANDEM_LONG") else 3
    with dual.Clients(pair) as clients:
        for _ in range(rounds):
            clients.wait(40)
            # After a rollback the worker looks whether capture is whole before the table counts as in sync again.
            wait_until(lambda: set(pair.states().values()) == {"syncing"}, 60, 0.05, "the tables to be in sync")
            assert Call(pair, "cutover").end() is None
            clients.wait(40)
            assert Call(pair, "rollback").end() is None
        clients.wait(40)
    check(pair, clients, "old")
    assert clients.refused["old"] and clients.refused["new"], "the clients never met a fence"
    pauses = pair.sql("SELECT kind, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY pause_ms)::numeric, 1), round(max(pause_ms)::numeric, 1) FROM tandem.cutover_runs GROUP BY kind")
    print(f"\n{rounds} rounds, {clients.total()} writes acknowledged, {clients.refused} refused, longest write {clients.longest * 1000:.0f} ms; pause p50 and max in ms: {pauses}")
