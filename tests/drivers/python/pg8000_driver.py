"""pg8000, which is Python all through. It has no cancel request; a query is cancelled from another of its sessions."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version

import pg8000.dbapi
import pg8000.native

from harness import CLIENTS, ROUNDS, run, same


def arguments(target, **more):
    return {
        "host": target.host,
        "port": target.port,
        "user": target.user,
        "password": target.password,
        "database": target.database,
        "ssl_context": target.context() or False,
        "timeout": 20,
        **more,
    }


@contextmanager
def connected(target, **more):
    connection = pg8000.native.Connection(**arguments(target, **more))
    try:
        yield connection
    finally:
        connection.close()


def fails(sqlstate, call, *args, **more):
    try:
        call(*args, **more)
    except pg8000.native.DatabaseError as error:
        return same(error.args[0]["C"], sqlstate)
    raise AssertionError(f"expected the error {sqlstate}")


def queries(target):
    with connected(target) as connection:
        sql = "SELECT CAST(:a AS int), CAST(:b AS text), CAST(:c AS bytea), CAST(:d AS text)"
        same(connection.run(sql, a=7, b="naïve ☃", c=b"\0\xff", d=None), [[7, "naïve ☃", b"\0\xff", None]])
        long = "x" * 3_000_000
        same(connection.run("SELECT CAST(:a AS text)", a=long), [[long]])
        same(len(connection.run("SELECT generate_series(1, 20000)")), 20000)
        for _ in range(3):
            fails("22012", connection.run, "SELECT 1 / CAST(:a AS int)", a=0)
            fails("22012", connection.run, "SELECT 1/0")
            same(connection.run("SELECT 1"), [[1]])


def transactions(target):
    connection = pg8000.dbapi.connect(**arguments(target))
    cursor = connection.cursor()
    cursor.execute(f"DROP TABLE IF EXISTS {target.table}")
    cursor.execute(f"CREATE TABLE {target.table} (n int)")
    cursor.execute(f"INSERT INTO {target.table} VALUES (%s)", (1,))
    connection.commit()
    cursor.execute(f"INSERT INTO {target.table} VALUES (%s)", (2,))
    connection.rollback()
    fails("42703", cursor.execute, "SELECT nothing")
    connection.rollback()
    cursor.executemany(f"INSERT INTO {target.table} VALUES (%s)", [(3,), (4,)])
    connection.commit()
    cursor.execute(f"SELECT array_agg(n ORDER BY n) FROM {target.table}")
    same(cursor.fetchone()[0], [1, 3, 4])
    connection.close()


def prepared(target):
    with connected(target) as one, connected(target) as two:
        statements = [(c, n, c.prepare(f"SELECT CAST(:a AS int) + {n}")) for n in range(4) for c in (one, two)]
        for a in range(6):
            for connection, n, statement in statements:
                same(statement.run(a=a), [[a + n]])
            fails("22012", one.run, "SELECT 1 / CAST(:a AS int)", a=0)
        for _, _, statement in statements:
            statement.close()
        same(one.run("SELECT 1"), [[1]])


def copies(target):
    with connected(target) as connection:
        connection.run("BEGIN")
        connection.run("CREATE TEMP TABLE copied (n int) ON COMMIT DROP")
        connection.run("COPY copied FROM STDIN", stream=io.BytesIO(b"".join(b"%d\n" % n for n in range(20000))))
        out = io.BytesIO()
        connection.run("COPY copied TO STDOUT", stream=out)
        same(out.getvalue().count(b"\n"), 20000)
        connection.run("COMMIT")
        fails("42501", connection.run, "COPY pg_class FROM STDIN", stream=io.BytesIO(b"nonsense\n"))
        same(connection.run("SELECT 1"), [[1]])


def cancels(target):
    with connected(target) as one, connected(target) as two:
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE usename = current_user AND query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        )
        timer = threading.Timer(0.5, two.run, [cancel])
        timer.start()
        fails("57014", one.run, "SELECT pg_sleep(15)")
        timer.join()
        same(one.run("SELECT 1"), [[1]])


def settings(target):
    with connected(target, application_name="ours") as one, connected(target) as two:
        one.run("SET work_mem = '123kB'")
        for _ in range(5):
            same(two.run("SHOW work_mem") == [["123kB"]], False)
            same(one.run("SHOW work_mem"), [["123kB"]])
            same(one.run("SHOW application_name"), [["ours"]])


def notifications(target):
    with connected(target) as one, connected(target) as two:
        one.run("LISTEN bell")
        two.run("NOTIFY bell, 'ding'")
        one.run("SELECT 1")
        same([payload for (_, _, payload) in one.notifications], ["ding"])


def crowds(target):
    with connected(target) as connection:
        connection.run(f"DROP TABLE IF EXISTS {target.table}")
        connection.run(f"CREATE TABLE {target.table} (n int)")
        connection.run(f"INSERT INTO {target.table} VALUES (0)")

    def client(_):
        with connected(target) as connection:
            for _ in range(ROUNDS):
                connection.run("BEGIN")
                connection.run(f"UPDATE {target.table} SET n = n + CAST(:a AS int)", a=1)
                connection.run("COMMIT")

    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(client, range(CLIENTS)))
    with connected(target) as connection:
        same(connection.run(f"SELECT n FROM {target.table}"), [[CLIENTS * ROUNDS]])


def strangers(target):
    fails("28P01", pg8000.native.Connection, **arguments(target, password="wrong"))
    fails("28P01", pg8000.native.Connection, **arguments(target, user="nobody"))


run(
    f"pg8000 {version('pg8000')}",
    [queries, transactions, prepared, copies, cancels, settings, notifications, crowds, strangers],
)
