"""Random single mutations of rows of every type, on either side: all are found in one pass, and nothing else. See README.md."""
import os

from lib import paths

from helpers import key_text, reconcile
from mutations import Mutator, tables

ADD_ALL = False
MUTATIONS = int(os.environ.get("TANDEM_MUTATIONS", 100000 if paths.long_version() else 1200))
ROWS = 60 if MUTATIONS <= 5000 else 250


def make_tables(scene, flavor):
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = '', NAMES utf8mb4, time_zone = '+00:00'")
        made = tables(flavor)
        for table in made:
            table.create(scene, cursor, ROWS)
    connection.close()
    return [table.name for table in made]


def as_key(mutator, name, key):
    return key_text(dict(zip(mutator.key[name], key)))


def one_round(scene, mutator, names, number):
    """Every row of every table is mutated once, some on the new side, some on the old."""
    expected, on_new, on_old, extras = {}, {}, {}, {}
    for name in names:
        keys = mutator.keys(name)
        on_new[name] = [key for key in keys if mutator.random.random() < 0.5]
        on_old[name] = [key for key in keys if key not in set(on_new[name])]
        for key in on_new[name]:
            expected[name, as_key(mutator, name, key)] = mutator.mutate_new(name, key)

        def work(cursor, name=name):
            return {(name, as_key(mutator, name, key)): mutator.mutate_old(name, key, cursor) for key in on_old[name]}
        expected.update(mutator.without_events(name, work))
        extras[name] = [mutator.insert_new(name, number * 10 + i) for i in range(2)]
        for key in extras[name]:
            expected[name, as_key(mutator, name, key)] = "extra", None
    found = reconcile(scene, *names)
    missed = {where: what for where, what in expected.items() if where not in found}
    assert not missed, f"{len(missed)} of {len(expected)} mutations were missed, such as {list(missed.items())[:5]}"
    wrong = {where: what for where, what in found.items() if where not in expected}
    assert not wrong, f"{len(wrong)} findings are none, such as {list(wrong.items())[:5]}"
    differing = [(where, what, found[where]) for where, what in expected.items()
                 if what[0] != found[where][0] or (what[0] == "different" and what[1] != found[where][1])]
    assert not differing, f"{len(differing)} findings are of another kind, such as {differing[:5]}"
    for name in names:
        mutator.restore_new(name, [*on_new[name], *extras[name]])
        mutator.restore_old(name, on_old[name])
    return len(expected)


def test_random_mutations(scene, flavor):
    names = make_tables(scene, flavor)
    scene.add_and_start("%")
    assert reconcile(scene, *names) == {}
    done = number = 0
    with Mutator(scene, names, seed=int(os.environ.get("TANDEM_SEED", "1"))) as mutator:
        while done < MUTATIONS:
            number += 1
            done += one_round(scene, mutator, names, number)
    assert reconcile(scene, *names) == {}, "everything was put back"
    print(f"{done} mutations in {number} rounds, all found")
