// What the drivers' scripts share: where the router is, and running each check under every pooling, in clear and over
// TLS. `scripts/test-drivers.sh` sets the variables. A check is an async function of a target; it fails by throwing.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual, inspect } from "node:util";

const SECONDS_A_CHECK = 30;
export const CLIENTS = 8;
export const ROUNDS = 20;

function targets(driver) {
  const env = process.env;
  return ["transaction", "session"].flatMap((pooling) =>
    [false, true].map((tls) => ({
      host: "localhost",
      port: Number(env.ROUTER_PORT),
      user: env.ROUTER_USER,
      password: env.ROUTER_PASSWORD,
      database: `${env.ROUTER_DATABASE}~${pooling}`,
      // Certificate and name are checked.
      ssl: tls ? { ca: readFileSync(env.ROUTER_CA, "utf8") } : false,
      pooling,
      url: `postgresql://${env.ROUTER_USER}:${env.ROUTER_PASSWORD}@localhost:${env.ROUTER_PORT}/${env.ROUTER_DATABASE}~${pooling}`,
      // A table's name that no other run has.
      table: `${driver.split(" ")[0]}_js_${pooling}_${tls ? "tls" : "clear"}`,
    })),
  );
}

export function same(found, wanted) {
  if (!isDeepStrictEqual(found, wanted)) throw new Error(`expected ${inspect(wanted)}, found ${inspect(found)}`);
}

export async function fails(sqlstate, promise) {
  let outcome;
  try {
    outcome = await promise;
  } catch (error) {
    if (error.code === sqlstate) return error;
    throw error;
  }
  throw new Error(`expected the error ${sqlstate}, found ${inspect(outcome)}`);
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${SECONDS_A_CHECK} s`)), SECONDS_A_CHECK * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Ends the process: 0 when every check has passed under every pooling, else 1.
export async function run(driver, checks) {
  let failed = false;
  for (const target of targets(driver)) {
    const mode = `${driver.padEnd(18)} ${target.pooling.padEnd(12)} ${(target.ssl ? "tls" : "clear").padEnd(6)}`;
    let wrong = false;
    for (const check of checks) {
      try {
        await inTime(check(target));
      } catch (error) {
        failed = wrong = true;
        console.log(`${mode} FAILED ${check.name}`);
        console.error(error);
      }
    }
    if (!wrong) console.log(`${mode} ok     ${checks.map((check) => check.name).join(", ")}`);
  }
  process.exit(failed ? 1 : 0);
}
