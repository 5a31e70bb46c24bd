"""See README.md."""


def test_new_side_was_changed(scene):
    scene.check()
    scene.sql("UPDATE e SET v = 100 WHERE id = 1")
    scene.sql("DELETE FROM e WHERE id = 2")
    scene.sql("INSERT INTO e VALUES (9, 'x', 9)")
    assert len(scene.differences()) == 3
    for key in ('{"id": 1, "place": "a"}', '{"id": 2, "place": "b"}', '{"id": 9, "place": "x"}'):
        scene.sql("SELECT tandem.enqueue('e', %s::jsonb)", (key,))
    scene.check()


def test_write_past_the_triggers(scene):
    """A session that bypasses capture (here: the trigger is away for one statement) is mended by reporting the key."""
    name, body = scene.old.query("SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s"
                                 " AND EVENT_OBJECT_TABLE = 'e' AND EVENT_MANIPULATION = 'UPDATE'", (scene.old_database,))[0]
    create = scene.old.query(f"SHOW CREATE TRIGGER `{scene.old_database}`.`{name}`")[0]
    assert body
    connection = scene.old.connect(scene.old_database)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER `{name}`")
        cursor.execute("UPDATE e SET v = 33 WHERE id = 3")
        cursor.execute("SET sql_mode = %s", (create[1],))
        try:
            cursor.execute(create[2])
        except Exception as error:  # the worker saw it first and made it anew
            assert error.args[0] in (1359, 1235), error
    connection.close()
    scene.sql("""SELECT tandem.enqueue('e', '{"id": 3, "place": "c "}')""")
    scene.check()


def test_enqueue_with_the_callers_transaction(scene):
    """A table of its own: `e` may be copied anew, because a trigger was away."""
    connection = scene.pg.connect(scene.database, autocommit=False)
    scene.sql("UPDATE alone SET v = -1 WHERE id = 1")
    with connection.cursor() as cursor:
        cursor.execute("""SELECT tandem.enqueue('alone', '{"id": 1}')""")
    connection.rollback()
    scene.wait_caught_up()
    assert scene.value("SELECT v FROM alone WHERE id = 1") == -1
    with connection.cursor() as cursor:
        cursor.execute("""SELECT tandem.enqueue('alone', '{"id": 1}')""")
    connection.commit()
    connection.close()
    scene.check()
