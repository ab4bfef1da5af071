// `pg` (node-postgres) with its pool, cursors and COPY streams.
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";
import { CLIENTS, ROUNDS, fails, pause, run, same } from "./harness.mjs";

const { version } = createRequire(import.meta.url)("pg/package.json");

const options = ({ host, port, user, password, database, ssl }, more) => ({
  host, port, user, password, database, ssl, connectionTimeoutMillis: 10_000, ...more,
});

async function connected(target, work, more) {
  const client = new pg.Client(options(target, more));
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const two = (target, work) => connected(target, (a) => connected(target, (b) => work(a, b)));
const value = async (client, ...query) => Object.values((await client.query(...query)).rows[0])[0];

const urls = async (target) => {
  const client = new pg.Client(target.url);
  await client.connect();
  same(await value(client, "SELECT current_user::text"), target.user);
  await client.end();
};

const queries = (target) =>
  connected(target, async (client) => {
    const values = [7, "naïve ☃", Buffer.from([0, 255]), null];
    const row = await client.query({ text: "SELECT $1::int, $2::text, $3::bytea, $4::text", values, rowMode: "array" });
    same(row.rows[0], values);
    const long = "x".repeat(3_000_000);
    same(await value(client, "SELECT $1::text", [long]), long);
    same((await client.query("SELECT generate_series(1, 20000)")).rowCount, 20000);
    for (let n = 0; n < 3; n++) {
      await fails("22012", client.query("SELECT 1/0"));
      await fails("22012", client.query("SELECT 1/$1::int", [0]));
      same(await value(client, "SELECT 1"), 1);
    }
    same((await client.query("SELECT 1; SELECT 2")).length, 2);
  });

const transactions = (target) =>
  connected(target, async (client) => {
    await client.query(`DROP TABLE IF EXISTS ${target.table}; CREATE TABLE ${target.table} (n int)`);
    await client.query("BEGIN");
    await client.query(`INSERT INTO ${target.table} VALUES ($1)`, [1]);
    await client.query("SAVEPOINT here");
    await client.query(`INSERT INTO ${target.table} VALUES ($1)`, [2]);
    await client.query("ROLLBACK TO here");
    await client.query("COMMIT");
    await client.query("BEGIN");
    await fails("42703", client.query("SELECT nothing"));
    await fails("25P02", client.query("SELECT 1"));
    await client.query("ROLLBACK");
    same(await value(client, `SELECT array_agg(n) FROM ${target.table}`), [1]);
    await client.query("BEGIN");
    const cursor = client.query(new Cursor("SELECT generate_series(1, $1::int) AS n", [1000]));
    let total = 0;
    for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
      for (const { n } of rows) total += n;
    }
    await cursor.close();
    same(total, 500500);
    await client.query("COMMIT");
  });

const prepared = (target) =>
  two(target, async (a, b) => {
    for (let n = 0; n < 12; n++) {
      for (const client of [a, b]) {
        const query = { name: `plus-${n % 4}`, text: `SELECT $1::int + ${n % 4} AS sum`, values: [n] };
        same((await client.query(query)).rows[0].sum, n + (n % 4));
      }
      await fails("22012", a.query({ name: "by-zero", text: "SELECT 1/$1::int", values: [0] }));
      await fails("42601", a.query({ name: "bad", text: "SELEC $1", values: [0] }));
    }
    await a.query("DEALLOCATE ALL");
    same(await value(a, "SELECT count(*)::int FROM pg_prepared_statements WHERE name LIKE 'plus%'"), 0);
  });

const copies = (target) =>
  connected(target, async (client) => {
    await client.query("BEGIN; CREATE TEMP TABLE copied (n int) ON COMMIT DROP");
    const lines = Array.from({ length: 20000 }, (_, n) => `${n}\n`);
    await pipeline(Readable.from(lines), client.query(copyFrom("COPY copied FROM STDIN")));
    let text = "";
    for await (const part of client.query(copyTo("COPY copied TO STDOUT"))) text += part;
    same(text, lines.join(""));
    await client.query("COMMIT");
    await fails("42501", pipeline(Readable.from(["nonsense\n"]), client.query(copyFrom("COPY pg_class FROM STDIN"))));
    same(await value(client, "SELECT 1"), 1);
  });

const cancels = (target) =>
  connected(target, async (client) => {
    const query = new pg.Query("SELECT pg_sleep(20)");
    const ended = new Promise((done, failed) => query.on("end", done).on("error", failed));
    client.query(query);
    await pause(300);
    const began = Date.now();
    new pg.Client(options(target)).cancel(client, query);
    await fails("57014", ended);
    same(Date.now() - began < 5000, true);
    same(await value(client, "SELECT 1"), 1);
  });

const settings = (target) =>
  connected(
    target,
    (a) =>
      connected(target, async (b) => {
        await a.query("SET work_mem = '123kB'");
        for (let n = 0; n < 5; n++) {
          same((await value(b, "SHOW work_mem")) === "123kB", false);
          same(await value(a, "SHOW work_mem"), "123kB");
          same(await value(a, "SHOW timezone"), "Asia/Tokyo");
          same(await value(a, "SHOW application_name"), "ours");
          same(await value(a, "SHOW statement_timeout"), "7s");
        }
      }),
    { options: "-c timezone=Asia/Tokyo", application_name: "ours", statement_timeout: 7000 },
  );

const notifications = (target) =>
  two(target, async (a, b) => {
    const rung = new Promise((done) => a.on("notification", ({ payload }) => done(payload)));
    await a.query("LISTEN bell");
    await b.query("NOTIFY bell, 'ding'");
    same(await rung, "ding");
  });

// The driver's own pool, larger than the router's.
async function crowds(target) {
  // Session pooling gives a client of its own to each server connection, for as long as it stays.
  const pool = new pg.Pool(options(target, { max: target.pooling === "transaction" ? CLIENTS : 2 }));
  await pool.query(`DROP TABLE IF EXISTS ${target.table}; CREATE TABLE ${target.table} AS SELECT 0 AS n`);
  const client = async () => {
    for (let n = 0; n < ROUNDS; n++) {
      const client = await pool.connect();
      await client.query("BEGIN");
      await client.query({ name: "up", text: `UPDATE ${target.table} SET n = n + $1`, values: [1] });
      await client.query("COMMIT");
      client.release();
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  same(await value(pool, `SELECT n FROM ${target.table}`), CLIENTS * ROUNDS);
  await pool.end();
}

async function strangers(target) {
  for (const wrong of [{ password: "wrong" }, { user: "nobody" }]) {
    await fails("28P01", new pg.Client(options(target, wrong)).connect());
  }
}

await run(`pg ${version}`, [
  urls, queries, transactions, prepared, copies, cancels, settings, notifications, crowds, strangers,
]);
