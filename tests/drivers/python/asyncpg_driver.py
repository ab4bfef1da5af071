"""asyncpg, its connections and its pool."""

import asyncio
import io
import time

import asyncpg

from harness import CLIENTS, ROUNDS, run, same


def arguments(target, **more):
    return {
        "host": target.host,
        "port": target.port,
        "user": target.user,
        "password": target.password,
        "database": target.database,
        "ssl": target.context() or False,
        "timeout": 10,
        **more,
    }


class Connected:
    """`async with` for a connection of its own."""

    def __init__(self, target, **more):
        self.arguments = arguments(target, **more)

    async def __aenter__(self):
        self.connection = await asyncpg.connect(**self.arguments)
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


async def fails(sqlstate, awaited):
    try:
        await awaited
    except asyncpg.PostgresError as error:
        return same(error.sqlstate, sqlstate)
    raise AssertionError(f"expected the error {sqlstate}")


async def urls(target):
    connection = await asyncpg.connect(target.url)
    same(await connection.fetchval("SELECT current_user::text"), target.user)
    await connection.close()


async def queries(target):
    async with Connected(target) as connection:
        row = await connection.fetchrow("SELECT $1::int, $2::text, $3::bytea, $4::text", 7, "naïve ☃", b"\0\xff", None)
        same(tuple(row), (7, "naïve ☃", b"\0\xff", None))
        long = "x" * 3_000_000
        same(await connection.fetchval("SELECT $1::text", long), long)
        same(len(await connection.fetch("SELECT generate_series(1, 20000)")), 20000)
        for _ in range(3):
            await fails("22012", connection.fetchval("SELECT 1/$1::int", 0))
            same(await connection.fetchval("SELECT 1"), 1)
        same(await connection.execute("SELECT 1; SELECT 2"), "SELECT 1")


async def transactions(target):
    async with Connected(target) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {target.table}; CREATE TABLE {target.table} (n int)")
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {target.table} VALUES ($1)", 1)
            inner = connection.transaction()
            await inner.start()
            await connection.execute(f"INSERT INTO {target.table} VALUES ($1)", 2)
            await inner.rollback()
        outer = connection.transaction(isolation="serializable")
        await outer.start()
        await fails("42703", connection.execute("SELECT nothing"))
        await outer.rollback()
        same(await connection.fetchval(f"SELECT array_agg(n) FROM {target.table}"), [1])
        async with connection.transaction():
            total = 0
            async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=100):
                total += row[0]
            same(total, 500500)


async def prepared(target):
    """A cache of two, so that statements are closed again and again; and one of a type the driver looks up."""
    async with Connected(target, statement_cache_size=2) as one, Connected(target, statement_cache_size=2) as two:
        kept = await one.prepare("SELECT $1::int * 2")
        for n in range(12):
            for connection in (one, two):
                same(await connection.fetchval(f"SELECT $1::int + {n % 4}", n), n + n % 4)
            same(await kept.fetchval(n), 2 * n)
            await fails("22012", one.fetchval("SELECT 1/$1::int", 0))
        kind = f"{target.table}_kind"
        await one.execute(f"DROP TYPE IF EXISTS {kind}; CREATE TYPE {kind} AS (a int, b text[])")
        same(tuple(await one.fetchval(f"SELECT ROW(1, ARRAY['x'])::{kind}")), (1, ["x"]))
        await one.executemany("SELECT $1::int", [(n,) for n in range(500)])


async def copies(target):
    async with Connected(target) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {target.table}; CREATE TABLE {target.table} (n int, word text)")
        rows = [(n, f"word {n}") for n in range(20000)]
        same(await connection.copy_records_to_table(target.table, records=rows), "COPY 20000")
        got = bytearray()

        async def keep(part):
            got.extend(part)

        await connection.copy_from_query(f"SELECT n FROM {target.table} WHERE n < $1", 10000, output=keep)
        same(got.count(b"\n"), 10000)
        await fails("22P02", connection.copy_to_table(target.table, source=io.BytesIO(b"no number\tx\n")))
        same(await connection.fetchval("SELECT 1"), 1)


async def cancels(target):
    async with Connected(target) as connection:
        began = time.monotonic()
        try:
            await connection.fetchval("SELECT pg_sleep(20)", timeout=0.3)
            raise AssertionError("was not cancelled")
        except asyncio.TimeoutError:
            pass
        same(await connection.fetchval("SELECT 1"), 1)
        same(time.monotonic() - began < 5, True)
        still = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'"
        same(await connection.fetchval(still), 0)


async def settings(target):
    mine = {"timezone": "Asia/Tokyo", "application_name": "ours"}
    async with Connected(target, server_settings=mine) as one, Connected(target) as two:
        await one.execute("SET work_mem = '123kB'")
        for _ in range(5):
            same(await two.fetchval("SHOW work_mem") == "123kB", False)
            same(await one.fetchval("SHOW work_mem"), "123kB")
            same(await one.fetchval("SHOW timezone"), "Asia/Tokyo")
            same(await one.fetchval("SHOW application_name"), "ours")


async def notifications(target):
    async with Connected(target) as one, Connected(target) as two:
        rung = asyncio.get_running_loop().create_future()
        await one.add_listener("bell", lambda *note: rung.set_result(note[-1]))
        await two.execute("NOTIFY bell, 'ding'")
        same(await asyncio.wait_for(rung, 5), "ding")


async def crowds(target):
    """The driver's own pool, larger than the router's, and what it sends when a connection is given back."""
    async with Connected(target) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {target.table}; CREATE TABLE {target.table} (n int)")
        await connection.execute(f"INSERT INTO {target.table} VALUES (0)")
    # Session pooling gives a client of its own to each server connection, for as long as it stays.
    size = CLIENTS if target.pooling == "transaction" else 2
    async with asyncpg.create_pool(**arguments(target), min_size=1, max_size=size) as pool:

        async def client():
            for _ in range(ROUNDS):
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute(f"UPDATE {target.table} SET n = n + $1", 1)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        same(await pool.fetchval(f"SELECT n FROM {target.table}"), CLIENTS * ROUNDS)


async def strangers(target):
    await fails("28P01", asyncpg.connect(**arguments(target, password="wrong")))
    await fails("28P01", asyncpg.connect(**arguments(target, user="nobody")))


run(
    f"asyncpg {asyncpg.__version__}",
    [urls, queries, transactions, prepared, copies, cancels, settings, notifications, crowds, strangers],
)
