"""See README.md."""
import random

import pymysql

ADD_ALL = False


def test_swaps(scene):
    scene.sql("CREATE TABLE u (id integer PRIMARY KEY, email text UNIQUE, n integer UNIQUE)")
    scene.add_table("u", target="u")
    scene.start_all()
    scene.write("INSERT INTO u VALUES " + ",".join(f"({n}, 'mail {n}', {n})" for n in range(1, 101)))
    scene.check()

    connection = scene.app(autocommit=False)
    with connection.cursor() as cursor:
        for statement in ("UPDATE u SET email = NULL WHERE id = 1", "UPDATE u SET email = 'mail 1' WHERE id = 2", "UPDATE u SET email = 'mail 2' WHERE id = 1"):
            cursor.execute(statement)
        connection.commit()
    scene.check()

    # A chain: everybody takes the number of the next one.
    scene.write("UPDATE u SET n = n + 1 ORDER BY n DESC")
    scene.check()

    # Freed by a delete and taken by another row, again and again, faster than batches.
    generator = random.Random(3)
    with connection.cursor() as cursor:
        for _ in range(400):
            a, b = generator.sample(range(1, 101), 2)
            try:
                cursor.execute("SELECT email FROM u WHERE id = %s", (a,))
                row = cursor.fetchone()
                cursor.execute("DELETE FROM u WHERE id = %s", (a,))
                cursor.execute("UPDATE u SET email = %s WHERE id = %s", (row and row[0], b))
                cursor.execute("INSERT INTO u VALUES (%s, %s, %s)", (a, f"new {generator.random()}", generator.randrange(10**9)))
                connection.commit()
            except pymysql.err.IntegrityError:
                connection.rollback()
    connection.close()
    scene.check()
