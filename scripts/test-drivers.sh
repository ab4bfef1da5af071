#!/usr/bin/env bash
# Drivers from the registries, unchanged, through `o7s router` to a reconciled fleet of real Postgres servers. A line for
# each driver, pooling and way in (in clear, over TLS); exit 1 when one fails. Installs what it needs below .o7s/drivers,
# pinned, and leaves nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/debug:$PATH" NO_COLOR=1 PYTHONDONTWRITEBYTECODE=1

here=$PWD/.o7s/drivers
data=$here/railway
case $(id -u) in
    # Postgres never runs as root, and may not enter root's home as somebody else.
    0) data=$(mktemp -d "${TMPDIR:-/tmp}/o7s-drivers.XXXXXX")/railway; chmod 755 "${data%/railway}" ;;
esac
router=

finish() {
    code=$?
    [ -z "$router" ] || { kill "$router" 2>/dev/null && wait "$router"; } || true
    o7s local down --data "$data" >/dev/null 2>&1 || true
    rm -rf "$data" "$here/fleet"
    [ "$(id -u)" != 0 ] || rm -rf "${data%/railway}"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

# needs PROGRAM-TO-TRY DEBIAN-PACKAGES: there already, or installed where that is allowed.
needs() {
    sh -c "$1" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $2 >/dev/null
    fi
    sh -c "$1" >/dev/null 2>&1 || { echo "install $2 (or what your system calls it), and try again" >&2; exit 1; }
}
needs "python3 -c 'import venv, ensurepip'" "python3 python3-venv"
needs "npm --version" "nodejs npm"
needs "openssl version" openssl
needs "psql --version" postgresql-client

mkdir -p "$here"
python3 -m venv "$here/python"
"$here/python/bin/pip" install --quiet --disable-pip-version-check -r tests/drivers/python/requirements.txt
rm -rf "$here/node"
cp -r tests/drivers/node "$here/node"
(cd "$here/node" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null)

# A tenant's value from `o7s tenant url --format json`.
of() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},*\$/\1/p" <<<"$tenant"; }

rm -rf "$here/fleet"
mkdir -p "$here/fleet/tenants"
cp manifests/*.yaml "$here/fleet/"
cp manifests/tenants/acme.yaml "$here/fleet/tenants/"
exports=$(o7s local up --detach --data "$data")
eval "$exports"
o7s bootstrap -f "$here/fleet" --yes >/dev/null 2>&1
o7s reconcile -f "$here/fleet" --once --yes >/dev/null 2>&1
tenant=$(o7s tenant url acme -f "$here/fleet" --format json)

# Fewer server connections than the drivers have clients.
cat >"$here/fleet/routes.yaml" <<YAML
routes:
  $(of tenant):
    endpoint: $(of host):$(of port)
    database: $(of database)
    serverConnections: 2
    roles: { $(of user): { password: $(of password) } }
YAML
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$here/fleet/tls.key" -out "$here/fleet/tls.crt" 2>/dev/null
o7s router --routes "$here/fleet/routes.yaml" --listen 127.0.0.1:0 --drain 1s \
    --tls-cert "$here/fleet/tls.crt" --tls-key "$here/fleet/tls.key" 2>"$here/router.log" &
router=$!
for _ in $(seq 100); do
    port=$(sed -n 's/.*serving on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$here/router.log")
    [ -z "$port" ] || break
    sleep 0.1
done
[ -n "$port" ] || { cat "$here/router.log" >&2; exit 1; }
export ROUTER_PORT=$port ROUTER_CA=$here/fleet/tls.crt
ROUTER_USER=$(of user) ROUTER_PASSWORD=$(of password) ROUTER_DATABASE=$(of database)
export ROUTER_USER ROUTER_PASSWORD ROUTER_DATABASE

failed=0
try() { timeout 240 "$@" || failed=1; }
try tests/drivers/psql.sh
try "$here/python/bin/python" tests/drivers/python/psycopg_driver.py
try "$here/python/bin/python" tests/drivers/python/asyncpg_driver.py
try "$here/python/bin/python" tests/drivers/python/pg8000_driver.py
try node --no-deprecation "$here/node/pg_driver.mjs"
try node --no-deprecation "$here/node/postgres_driver.mjs"
if [ $failed != 0 ]; then
    echo "a driver failed; the router said:" >&2
    cat "$here/router.log" >&2
fi
exit $failed
