"""The same from a shell: tandem-sync rehearse, cutover, rollback."""
import subprocess
import sys
from pathlib import Path

from lib import paths

sys.path.insert(0, str(Path(__file__).parent))

from test_cutover import GROUP, equal, fences, phase, ready, refused_on_old  # noqa: E402

TABLES = [argument for table in GROUP for argument in ("--table", table)]
WAIVE = [argument for gate in ("clean_pass", "divergence", "foreign_keys") for argument in ("--waive", f"{gate}=compared by the test, it's \"fine\"")]


def call(scene, command, *arguments):
    return subprocess.run([str(paths.worker_binary()), command, "--postgres", scene.pg.conninfo(scene.database), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, check=False)


def test_there_and_back_from_a_shell(scene):
    scene.write("INSERT INTO customer (name) VALUES ('Ann')", "INSERT INTO orders (customer_id, note) VALUES (1, 'first')")
    ready(scene)
    closed = call(scene, "cutover", *TABLES)
    assert closed.returncode != 0 and "gates of the cut-over are closed" in closed.stdout and "clean_pass of shop.customer" in closed.stdout, closed.stdout
    assert phase(scene, "customer") == "ready"
    rehearsed = call(scene, "rehearse", *TABLES, *WAIVE, "--max-pause-ms", "5000")
    assert rehearsed.returncode == 0, rehearsed.stdout
    for step in ("compare: ", "lock: ", "drain: ", "verify: ", "fence: ", "writes waited", "p99"):
        assert step in rehearsed.stdout, rehearsed.stdout
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    for _ in range(2):
        done = call(scene, "cutover", *TABLES, *WAIVE, "--max-pause-ms", "5000", "--lock-wait-ms", "20000")
        assert done.returncode == 0 and "commit: " in done.stdout, done.stdout
        assert phase(scene, "customer") == phase(scene, "orders") == "new_primary"
        refused_on_old(scene, "INSERT INTO customer (name) VALUES ('late')")
        scene.sql("INSERT INTO customer (name) VALUES ('new side')")
        back = call(scene, "rollback", *TABLES, "--max-pause-ms", "5000")
        assert back.returncode == 0 and "unfence: " in back.stdout, back.stdout
        assert phase(scene, "customer") == "ready" and fences(scene) == []
        equal(scene)
        scene.write("INSERT INTO customer (name) VALUES ('old side')")
        scene.check()
    assert scene.value("SELECT waived ->> 'divergence' FROM tandem.cutover_runs WHERE kind = 'cutover' ORDER BY run_id DESC LIMIT 1") == "compared by the test, it's \"fine\""


def test_bad_words(scene):
    for arguments, message in ((("cutover",), "--table"), (("cutover", "--table", "shop.nobody"), "nobody"),
                               (("cutover", *TABLES, "--waive", "clean_pass"), "waive"), (("rollback", *TABLES), "can be rolled back"),
                               (("cutover", *TABLES, "--max-pause-ms", "5"), "max_pause"), (("rehearse", *TABLES, "--waive", "phase=x"), "cannot be waived")):
        done = call(scene, *arguments)
        assert done.returncode != 0 and message in done.stdout, done.stdout
        assert "terminate" not in done.stdout
