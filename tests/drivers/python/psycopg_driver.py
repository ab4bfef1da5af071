"""psycopg 3, blocking and asynchronous."""

import asyncio
import threading
import time

import psycopg
from psycopg import errors

from harness import CLIENTS, ROUNDS, run, same


def arguments(target, **more):
    tls = {"sslmode": "verify-full", "sslrootcert": target.ca} if target.tls else {"sslmode": "disable"}
    return {
        "host": target.host,
        "port": target.port,
        "user": target.user,
        "password": target.password,
        "dbname": target.database,
        "connect_timeout": 10,
        **tls,
        **more,
    }


def connect(target, **more):
    return psycopg.connect(**arguments(target, **more))


def urls(target):
    with psycopg.connect(target.url) as connection:
        same(connection.execute("SELECT current_user::text").fetchone(), (target.user,))


def queries(target):
    with connect(target, autocommit=True) as connection:
        row = connection.execute("SELECT %s::int, %s, %s::bytea, %s", (7, "naïve ☃", b"\0\xff", None)).fetchone()
        same(row, (7, "naïve ☃", b"\0\xff", None))
        long = "x" * 3_000_000
        same(connection.execute("SELECT %s", (long,)).fetchone()[0], long)
        same(len(connection.execute("SELECT generate_series(1, 20000)").fetchall()), 20000)
        for _ in range(3):
            try:
                connection.execute("SELECT 1/0")
                raise AssertionError("1/0 has a result")
            except errors.DivisionByZero:
                pass
            same(connection.execute("SELECT 1").fetchone(), (1,))
        # The simple protocol, several statements in one message.
        cursor = connection.cursor()
        cursor.execute("SELECT 1; SELECT 2")
        same(cursor.nextset(), True)
        same(cursor.fetchone(), (2,))


def transactions(target):
    with connect(target, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {target.table}")
        connection.execute(f"CREATE TABLE {target.table} (n int)")
        with connection.transaction():
            connection.execute(f"INSERT INTO {target.table} VALUES (1)")
            try:
                with connection.transaction():
                    connection.execute(f"INSERT INTO {target.table} VALUES (2)")
                    raise psycopg.Rollback()
            finally:
                pass
        try:
            with connection.transaction():
                connection.execute(f"INSERT INTO {target.table} VALUES (3)")
                connection.execute("SELECT nothing")
        except errors.UndefinedColumn:
            pass
        same(connection.execute(f"SELECT array_agg(n) FROM {target.table}").fetchone(), ([1],))
        with connection.transaction(), connection.cursor(name="held") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT generate_series(1, 1000)")
            same(sum(n for (n,) in cursor), 500500)


def prepared(target):
    """Prepared at once and pushed out of the driver's cache of two, which closes or deallocates them."""
    with connect(target, autocommit=True) as one, connect(target, autocommit=True) as two:
        for connection in (one, two):
            connection.prepare_threshold, connection.prepared_max = 0, 2
        for n in range(12):
            for connection in (one, two):
                same(connection.execute(f"SELECT %s::int + {n % 4}", (n,)).fetchone(), (n + n % 4,))
            try:
                one.execute("SELECT 1/%s::int", (0,))
                raise AssertionError("1/0 has a result")
            except errors.DivisionByZero:
                pass


def pipelines(target):
    with connect(target, autocommit=True) as connection:
        connection.prepare_threshold = 0
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(300)]
            same([cursor.fetchone()[0] for cursor in cursors], list(range(300)))
            bad = connection.execute("SELECT 1/%s::int", (0,))
            try:
                pipeline.sync()
                bad.fetchone()
                raise AssertionError("1/0 has a result")
            except errors.DivisionByZero:
                pass
        same(connection.execute("SELECT 1").fetchone(), (1,))


def copies(target):
    with connect(target) as connection:
        connection.execute("CREATE TEMP TABLE copied (n int, word text) ON COMMIT DROP")
        with connection.cursor() as cursor:
            with cursor.copy("COPY copied FROM STDIN") as copy:
                for n in range(20000):
                    copy.write_row((n, f"word {n}"))
            same(cursor.rowcount, 20000)
            with cursor.copy("COPY copied TO STDOUT") as copy:
                same(sum(len(bytes(part)) > 0 for part in copy), 20000)
        connection.rollback()
        try:
            with connection.cursor() as cursor, cursor.copy("COPY pg_class FROM STDIN") as copy:
                copy.write(b"nonsense\n")
            raise AssertionError("pg_class was copied into")
        except psycopg.Error as error:
            same(error.sqlstate, "42501")
        connection.rollback()
        same(connection.execute("SELECT 1").fetchone(), (1,))


def cancels(target):
    with connect(target, autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        began = time.monotonic()
        try:
            connection.execute("SELECT pg_sleep(20)")
            raise AssertionError("was not cancelled")
        except errors.QueryCanceled:
            same(time.monotonic() - began < 5, True)
        timer.join()
        same(connection.execute("SELECT 1").fetchone(), (1,))


def settings(target):
    with connect(target, autocommit=True, options="-c timezone=Asia/Tokyo") as one, connect(target, autocommit=True) as two:
        one.execute("SET search_path = pg_catalog")
        one.execute("SELECT set_config('work_mem', '123kB', false)")
        for _ in range(5):
            same(two.execute("SELECT current_setting('work_mem') = '123kB'").fetchone(), (False,))
            shown = one.execute("SELECT current_setting('timezone'), current_setting('search_path')").fetchone()
            same(shown, ("Asia/Tokyo", "pg_catalog"))
            same(one.execute("SELECT current_setting('work_mem')").fetchone(), ("123kB",))


def notifications(target):
    with connect(target, autocommit=True) as one, connect(target, autocommit=True) as two:
        one.execute("LISTEN bell")
        two.execute("NOTIFY bell, 'ding'")
        same([note.payload for note in one.notifies(timeout=5, stop_after=1)], ["ding"])


async def crowds(target):
    """More clients than the pool has server connections."""
    async with await psycopg.AsyncConnection.connect(**arguments(target), autocommit=True) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {target.table}")
        await connection.execute(f"CREATE TABLE {target.table} (n int)")
        await connection.execute(f"INSERT INTO {target.table} VALUES (0)")

    async def client():
        async with await psycopg.AsyncConnection.connect(**arguments(target), autocommit=True) as connection:
            connection.prepare_threshold = 0
            for _ in range(ROUNDS):
                async with connection.transaction():
                    await connection.execute(f"UPDATE {target.table} SET n = n + %s", (1,))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    async with await psycopg.AsyncConnection.connect(**arguments(target)) as connection:
        counted = await (await connection.execute(f"SELECT n FROM {target.table}")).fetchone()
        same(counted, (CLIENTS * ROUNDS,))


def strangers(target):
    for wrong in ({"password": "wrong"}, {"user": "nobody"}):
        try:
            connect(target, **wrong)
            raise AssertionError(f"got in with {wrong}")
        except psycopg.OperationalError as error:
            same("password authentication failed" in str(error), True)


run(
    f"psycopg {psycopg.__version__}",
    [urls, queries, transactions, prepared, pipelines, copies, cancels, settings, notifications, crowds, strangers],
)
