// `postgres` (Postgres.js), which prepares every query and sends the next ones before the answers have come.
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { readFileSync } from "node:fs";
import postgres from "postgres";
import { CLIENTS, ROUNDS, fails, pause, run, same } from "./harness.mjs";

// Its package.json is not among what it exports.
const entry = createRequire(import.meta.url).resolve("postgres");
const { version } = JSON.parse(readFileSync(new URL("../../package.json", `file://${entry}`)));

const options = ({ host, port, user, password, database, ssl }, more) => ({
  host, port, user, password, database, ssl, connect_timeout: 10, onnotice: () => {}, max: 1, ...more,
});

async function connected(target, work, more) {
  const sql = postgres(options(target, more));
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

const two = (target, work, more) => connected(target, (a) => connected(target, (b) => work(a, b)), more);
const value = async (query) => Object.values((await query)[0])[0];

const urls = async (target) => {
  const sql = postgres(target.url);
  same(await value(sql`SELECT current_user::text`), target.user);
  await sql.end();
};

const queries = (target) =>
  connected(target, async (sql) => {
    const bytes = Buffer.from([0, 255]);
    const [row] = await sql`SELECT ${7}::int, ${"naïve ☃"}::text, ${bytes}::bytea, ${null}::text`.values();
    same(row, [7, "naïve ☃", bytes, null]);
    const long = "x".repeat(3_000_000);
    same(await value(sql`SELECT ${long}::text`), long);
    same((await sql`SELECT generate_series(1, 20000)`).length, 20000);
    for (let n = 0; n < 3; n++) {
      await fails("22012", sql`SELECT 1/${0}::int`);
      await fails("22012", sql`SELECT 1/0`.simple());
      same(await value(sql`SELECT 1`), 1);
    }
    // Under way at once, on one connection, with one of them wrong.
    const many = Array.from({ length: 300 }, (_, n) => (n === 150 ? sql`SELECT 1/${0}::int` : sql`SELECT ${n}::int AS n`));
    const settled = await Promise.allSettled(many);
    same(settled.filter(({ status }) => status === "rejected").length, 1);
    same(settled[299].value[0].n, 299);
    same((await sql`SELECT 1; SELECT 2`.simple()).length, 2);
  });

const transactions = (target) =>
  connected(target, async (sql) => {
    const table = sql(target.table);
    await sql`DROP TABLE IF EXISTS ${table}`;
    await sql`CREATE TABLE ${table} (n int)`;
    await sql.begin(async (sql) => {
      await sql`INSERT INTO ${table} VALUES (${1})`;
      await sql.savepoint(async (sql) => {
        await sql`INSERT INTO ${table} VALUES (${2})`;
        throw new Error("back");
      }).catch(() => {});
    });
    await fails("42703", sql.begin((sql) => [sql`INSERT INTO ${table} VALUES (${3})`, sql`SELECT nothing`]));
    same(await value(sql`SELECT array_agg(n) FROM ${table}`), [1]);
    let total = 0;
    await sql.begin(async (sql) => {
      for await (const rows of sql`SELECT generate_series(1, 1000) AS n`.cursor(100)) {
        for (const { n } of rows) total += n;
      }
    });
    same(total, 500500);
  });

const prepared = (target) =>
  two(target, async (a, b) => {
    const sum = (sql, n) => value(sql.unsafe(`SELECT $1::int + ${n % 4}`, [n], { prepare: true }));
    for (let n = 0; n < 12; n++) {
      for (const sql of [a, b]) same(await sum(sql, n), n + (n % 4));
      await fails("22012", a`SELECT 1/${0}::int`);
    }
    // Its plan is no longer what it was: the driver is told so and prepares anew.
    const table = a(target.table);
    await a`DROP TABLE IF EXISTS ${table}`;
    await a`CREATE TABLE ${table} AS SELECT 1 AS n`;
    same(await a`SELECT * FROM ${table}`.then(([row]) => row), { n: 1 });
    await b`ALTER TABLE ${table} ADD COLUMN m int`;
    same(await a`SELECT * FROM ${table}`.then(([row]) => row), { n: 1, m: null });
  });

const unprepared = (target) =>
  two(
    target,
    async (a, b) => {
      for (let n = 0; n < 12; n++) for (const sql of [a, b]) same(await value(sql`SELECT ${n}::int`), n);
    },
    { prepare: false },
  );

const copies = (target) =>
  connected(target, async (sql) => {
    const lines = Array.from({ length: 20000 }, (_, n) => `${n}\n`);
    await sql.begin(async (sql) => {
      await sql`CREATE TEMP TABLE copied (n int) ON COMMIT DROP`;
      await pipeline(Readable.from(lines), await sql`COPY copied FROM STDIN`.writable());
      let text = "";
      // Few, because this driver stops reading for good now and then when its buffer is full, without a router as well.
      for await (const part of await sql`COPY (SELECT n FROM copied LIMIT 1000) TO STDOUT`.readable()) text += part;
      same(text, lines.slice(0, 1000).join(""));
    });
    same(await value(sql`SELECT 1`), 1);
  });

const cancels = (target) =>
  connected(target, async (sql) => {
    const query = sql`SELECT pg_sleep(20)`;
    const ended = fails("57014", query);
    await pause(300);
    const began = Date.now();
    query.cancel();
    await ended;
    same(Date.now() - began < 5000, true);
    same(await value(sql`SELECT 1`), 1);
  });

const settings = (target) =>
  two(
    target,
    async (a, b) => {
      await a`SET work_mem = '123kB'`;
      for (let n = 0; n < 5; n++) {
        same((await value(b`SHOW work_mem`)) === "123kB", false);
        same(await value(a`SHOW work_mem`), "123kB");
        same(await value(a`SHOW timezone`), "Asia/Tokyo");
        same(await value(a`SHOW application_name`), "ours");
      }
    },
    { connection: { timezone: "Asia/Tokyo", application_name: "ours" } },
  );

const notifications = (target) =>
  connected(target, async (sql) => {
    let ring;
    const rung = new Promise((done) => (ring = done));
    await sql.listen("bell", ring);
    await sql.notify("bell", "ding");
    same(await rung, "ding");
  });

async function crowds(target) {
  // Session pooling gives a client of its own to each server connection, for as long as it stays.
  const max = target.pooling === "transaction" ? CLIENTS : 2;
  await connected(
    target,
    async (sql) => {
      const table = sql(target.table);
      await sql`DROP TABLE IF EXISTS ${table}`;
      await sql`CREATE TABLE ${table} AS SELECT 0 AS n`;
      const client = async () => {
        for (let n = 0; n < ROUNDS; n++) await sql.begin((sql) => sql`UPDATE ${table} SET n = n + ${1}`);
      };
      await Promise.all(Array.from({ length: CLIENTS }, client));
      same(await value(sql`SELECT n FROM ${table}`), CLIENTS * ROUNDS);
    },
    { max },
  );
}

async function strangers(target) {
  for (const wrong of [{ password: "wrong" }, { user: "nobody" }]) {
    await connected(target, (sql) => fails("28P01", sql`SELECT 1`), wrong);
  }
}

await run(`postgres ${version}`, [
  urls, queries, transactions, prepared, unprepared, copies, cancels, settings, notifications, crowds, strangers,
]);
