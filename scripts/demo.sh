#!/usr/bin/env bash
# The narrated tour: a fleet from nothing to routed on a local Railway, a change, a killed run, a change made by hand, and
# then all tenants at the router's one address. Everything it says is checked; the first thing that is not true ends it.
# Writes only below .o7s/demo, leaves nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/debug:$PATH" NO_COLOR=1

here=.o7s/demo
data=$PWD/$here/railway
fleet=$here/manifests
case $(id -u) in
    # Postgres never runs as root, and may not enter root's home as somebody else.
    0) data=$(mktemp -d "${TMPDIR:-/tmp}/o7s-demo.XXXXXX")/railway; chmod 755 "${data%/railway}" ;;
esac
router=

finish() {
    code=$?
    [ -z "$router" ] || { kill "$router" && wait "$router"; } 2>/dev/null || true
    o7s local down --data "$data" >/dev/null 2>&1 || true
    rm -rf "$here"
    [ "$(id -u)" != 0 ] || rm -rf "${data%/railway}"
    [ $code = 0 ] || printf '\nThe demo ended here: what it was about to show is not true.\n' >&2
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

title() { printf "\n== %s\n" "$*"; }
say() { printf '%s\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
# Fails with its words when the number is not the wanted one.
same() { [ "$1" = "$2" ] || { printf 'expected %s to be %s, it is %s\n' "$3" "$2" "$1" >&2; exit 1; }; }
status() { o7s local status --data "$data" --format json; }
number() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" | head -n 1; }
version() { o7s status -f "$fleet" --format json | number routing_version; }

rm -rf "$here"
mkdir -p "$here"
cp -r manifests "$fleet"

title "1. A Railway of our own"
show "o7s local up --detach"
exports=$(o7s local up --detach --data "$data")
eval "$exports"
say "an empty workspace at $O7S_RAILWAY_URL, with real Postgres processes behind its services"

title "2. The manifests"
show "o7s validate"
o7s validate -f "$fleet"
mkdir "$here/bad"
cp -r manifests/. "$here/bad/"
sed -i 's/^  tier: .*/  teir: pro/' "$here/bad/tenants/acme.yaml"
say "and with a typo:"
set +e
o7s validate -f "$here/bad" 2>"$here/errors"
code=$?
set -e
same $code 65 "the exit code of an invalid manifest"
sed "s|$here/bad|manifests|" "$here/errors"
grep -q 'did you mean `tier`' "$here/errors"

title "3. From nothing to routed"
begun=$(date +%s)
show "o7s bootstrap --yes"
o7s bootstrap -f "$fleet" --yes 2>/dev/null | sed 's|postgresql://.*@|postgresql://postgres:***@|'
show "o7s plan"
o7s plan -f "$fleet" | tail -n 4
show "o7s reconcile --once --yes"
o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2
took=$(($(date +%s) - begun))
tenants=$(ls "$fleet/tenants" | wc -l)
ready=$(o7s status -f "$fleet" | grep -c '^tenant/.* yes ')
same "$ready" "$tenants" "the number of tenants that are ready"
polls=$(status | number ReadLiveState)
requests=$(status | number total)
say "$ready tenants ready after $took s and $requests requests, $polls of them reads of the whole project"

title "4. Nothing to do costs one request"
before=$(status | number total)
show "o7s reconcile --once --yes"
o7s reconcile -f "$fleet" --once --yes | tail -n 3
same $(($(status | number total) - before)) 1 "the number of requests of a run that changes nothing"

title "5. A tenant gets more, another changes its tier"
starter=$(grep -l 'tier: starter' "$fleet"/tenants/*.yaml | head -n 1)
free=$(grep -l 'tier: free' "$fleet"/tenants/*.yaml | head -n 1)
printf '  limits: { connections: 40 }\n' >>"$starter"
sed -i 's/tier: free/tier: starter/' "$free"
old=$(version)
show "o7s plan --detailed-exitcode"
set +e
o7s plan -f "$fleet" --detailed-exitcode
code=$?
set -e
same $code 2 "the exit code of a plan with changes"
o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2
same "$(version)" $((old + 1)) "the version of the routing table"
say "two tenants, one transaction: the routing table went from version $old to $((old + 1))"

title "6. A run is killed half-way"
cat >"$fleet/tenants/zephyr.yaml" <<'YAML'
apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: zephyr }
spec:
  tier: pro
YAML
services=$(status | grep -c '"name": "')
volumes=$(status | number CreateVolumes)
o7s local fault timeout --operation CommitPatch --data "$data" >/dev/null
show "o7s reconcile --once --yes &   kill -9"
o7s reconcile -f "$fleet" --once --yes >/dev/null 2>&1 &
run=$!
# Its service and volume are made, and the patch that would configure them is never answered.
for _ in $(seq 600); do
    [ "$(status | number CreateVolumes)" = "$volumes" ] || break
    sleep 0.05
done
{ kill -9 $run && wait $run; } 2>/dev/null || true
same "$(status | grep -c '"name": "')" $((services + 1)) "the number of services of the half-done run"
say "its service is there, empty; the next run finishes it:"
o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2
same "$(status | grep -c '"name": "')" $((services + 1)) "the number of services, nothing doubled"
o7s status tenant/zephyr -f "$fleet" | tail -n 1

title "7. Somebody removes a manifest"
rm "$fleet/tenants/zephyr.yaml"
show "o7s plan"
o7s plan -f "$fleet" >"$here/plan"
tail -n 3 "$here/plan"
grep -q '^= tenant/zephyr' "$here/plan"
say "a missing file deletes nothing; data goes only with two keys"

# psql as a tenant, at the router's address. Its password is in no list of processes.
as() {
    PGPASSWORD=$(o7s tenant url "$1" -f "$fleet" --format json 2>/dev/null | sed -n 's/^ *"password": "\(.*\)",*$/\1/p') \
        PGCONNECT_TIMEOUT=20 timeout 30 psql -XAtq "postgresql://$1@127.0.0.1:$port/$1" "${@:2}"
}
who="SELECT current_user || ' in database ' || current_database()"

all_at_one_address() {
    title "8. All tenants at one address"
    show "o7s router --public --listen 127.0.0.1:0"
    : >"$here/router.log"
    o7s router --public --listen 127.0.0.1:0 --drain 1s --usage-every 1s 2>"$here/router.log" &
    router=$!
    port=
    for _ in $(seq 200); do
        port=$(sed -n 's/.*serving on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$here/router.log")
        [ -z "$port" ] || break
        sleep 0.05
    done
    [ -n "$port" ] || { cat "$here/router.log" >&2; exit 1; }
    for tenant in acme "$moving"; do
        show "psql postgresql://$tenant@127.0.0.1:$port/$tenant"
        found=$(as "$tenant" -c "$who")
        same "$found" "$tenant in database $tenant" "what psql is told"
        say "$found"
    done
}

# psql as the small tenant, with a query or two; what it is refused is shown as psql shows it.
tiny() {
    as tiny "$@" 2>&1 | sed 's/^psql: error: .*FATAL/FATAL/' || true
}

# How many of the small tenant's queries were answered.
answers() { grep -c answered <<<"$found" || true; }

# Ceilings of its own within the tier `free`, and what that tier does above its queries per minute; then reconciles.
small() {
    cat >"$fleet/tenants/tiny.yaml" <<YAML
apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: tiny }
spec:
  tier: free
  limits: { connections: 3, $1, storage: 16Mi, statementTimeout: 1s }
YAML
    sed -i "/name: free/,/placement:/ { /overLimit:/,/placement:/ s/queriesPerMinute: .*/queriesPerMinute: $2/ }" "$fleet/tiers.yaml"
    o7s reconcile -f "$fleet" --once --yes >/dev/null 2>&1
}

a_tenant_meets_its_ceilings() {
    title "9. A tenant of the tier free meets its ceilings"
    sent=0
    say "connections: three sessions are open, a fourth comes"
    held=
    : >"$here/in"
    for n in 1 2 3; do
        (echo "SELECT 'in';"; sleep 3) | as tiny >>"$here/in" 2>&1 &
        held="$held $!"
        for _ in $(seq 100); do
            [ "$(grep -c in "$here/in")" -lt "$n" ] || break
            sleep 0.05
        done
    done
    found=$(tiny -c "SELECT 1")
    echo "$found" | grep -A1 '3 of 3 connections'
    for one in $held; do wait "$one" || true; done
    sent=$((sent + 3))
    say "a statement that takes too long, although the client has raised Postgres' own limit"
    found=$(tiny -c "SET statement_timeout = 0" -c "SELECT pg_sleep(20)")
    echo "$found" | grep -A1 'ran longer than'
    sent=$((sent + 2))
    say "storage: the database has grown to 17Mi, as reconcile --watch measures it"
    as tiny -c "CREATE TABLE notes (text text)"
    psql -Xq "$O7S_DATABASE_URL" -c "INSERT INTO o7s.storage (tenant, bytes) VALUES ('tiny', 17 << 20)
        ON CONFLICT (tenant) DO UPDATE SET bytes = excluded.bytes, measured_at = now()"
    for _ in $(seq 200); do
        found=$(tiny -c "INSERT INTO notes VALUES ('more')")
        case $found in *"writes are refused"*) break ;; esac
        sent=$((sent + 1))
        sleep 0.1
    done
    echo "$found" | grep -A1 'writes are refused'
    as tiny -c "DELETE FROM notes" && say "DELETE goes through"
    sent=$((sent + 2))
    say "egress: two answers of 1.5 MB"
    found=$(tiny -c "SELECT length(repeat('x', 9))" -o /dev/null -c "SELECT repeat('x', 1500000)" \
        -c "SELECT repeat('x', 1500000)" -c "SELECT 1" | cut -c1-200)
    echo "$found" | grep -A1 'egress of this month'
    sent=$((sent + 3))
    show "the tenant gets queriesPerMinute: 40 and its tier's egress ceiling; o7s reconcile --once --yes"
    small "queriesPerMinute: 40" reject
    psql -Xq "$O7S_DATABASE_URL" -c "UPDATE o7s.storage SET bytes = 8 << 20, measured_at = now() WHERE tenant = 'tiny'"
    for _ in $(seq 60); do echo "SELECT 'answered';"; done >"$here/queries"
    found=$(tiny -f "$here/queries")
    sent=$((sent + $(answers)))
    say "60 queries at once: $(answers) answered, the others refused"
    echo "$found" | grep -m1 -A1 'of 40 queries per minute'
    small "queriesPerMinute: 40" "{ queue: 500ms }"
    found=$(tiny -c "\\timing on" -c "SELECT 'answered'")
    sent=$((sent + $(answers)))
    say "with { queue: 500ms } the next one waits that long first: $(echo "$found" | grep -o 'Time: [0-9.]* ms' | head -n 1)"
    small "queriesPerMinute: 40" "{ slow: 300ms }"
    found=$(tiny -c "\\timing on" -c "SELECT 'answered'")
    say "with { slow: 300ms } it is answered, slowly: $(echo "$found" | grep -o 'Time: [0-9.]* ms' | head -n 1)"
    echo "$found" | grep -q answered
    sent=$((sent + 1))
    show "o7s tenant limits tiny"
    o7s tenant limits tiny -f "$fleet"
    show "o7s usage tiny --since 1h"
    for _ in $(seq 100); do
        counted=$(o7s usage tiny --since 1h --format json | sed -n 's/^ *"queries": \([0-9]*\),*$/\1/p' | awk '{ sum += $1 } END { print sum + 0 }')
        [ "$counted" -lt "$sent" ] || break
        sleep 0.1
    done
    o7s usage tiny --since 1h
    same "$counted" "$sent" "the number of queries that were metered"
    say "it adds up: $sent queries reached its database, and as many were counted"
}

one_is_suspended() {
    title "10. A tenant is suspended"
    printf '  suspended: true\n' >>"$fleet/tenants/acme.yaml"
    show "o7s reconcile --once --yes"
    o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2 | head -n 1
    show "psql postgresql://acme@127.0.0.1:$port/acme"
    # The router hears of it a moment later.
    for _ in $(seq 100); do
        as acme -c "$who" >/dev/null 2>"$here/refused" || break
        sleep 0.05
    done
    grep -q 'suspended' "$here/refused"
    sed 's/.*FATAL/FATAL/' "$here/refused"
    same "$(as "$moving" -c "$who")" "$moving in database $moving" "what the other tenant is told"
    say "nobody else notices"
}

# An answer of the open session, by its number.
answer() {
    for _ in $(seq 200); do
        [ "$(grep -c . "$here/answered")" -lt "$1" ] || break
        sleep 0.05
    done
    sed -n "$1p" "$here/answered"
}

a_route_changes_under_an_open_session() {
    title "11. A route is pointed elsewhere, under an open session"
    # A move will make the copy, and the tenant's leave to use it, by itself.
    as "$moving" -c "CREATE TABLE orders AS SELECT 'the old place' AS place"
    as copy -c "CREATE TABLE orders AS SELECT 'the new place' AS place" -c "GRANT SELECT ON orders TO $moving" \
        -c "GRANT CONNECT ON DATABASE copy TO $moving" -c "GRANT USAGE ON SCHEMA public TO $moving"
    mkfifo "$here/asked"
    as "$moving" <"$here/asked" >"$here/answered" 2>&1 &
    session=$!
    exec 3>"$here/asked"
    question="SELECT 'orders are in ' || place FROM orders;"
    echo "$question" >&3
    found=$(answer 1)
    same "$found" "orders are in the old place" "the first answer"
    say "psql stays open: $found"
    show "o7s tenant pause $moving --wait"
    o7s tenant pause "$moving" --wait
    echo "$question" >&3
    say "the same psql asks again and waits; meanwhile the route is given the copy's database"
    psql -Xq "$O7S_DATABASE_URL" -v ON_ERROR_STOP=1 <<SQL
WITH next AS (UPDATE o7s.routing SET version = version + 1 RETURNING version)
UPDATE o7s.routes SET database = 'copy', version = next.version FROM next WHERE tenant = '$moving';
NOTIFY o7s_routes;
SQL
    same "$(grep -c . "$here/answered")" 1 "the number of answers during the pause"
    show "o7s tenant resume $moving"
    o7s tenant resume "$moving" --wait
    found=$(answer 2)
    same "$found" "orders are in the new place" "the answer after the change"
    say "psql, which has noticed nothing: $found"
    # No manifest says so: the next run puts it back.
    show "o7s reconcile --once --yes"
    o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2 | head -n 1
    for n in $(seq 3 100); do
        echo "$question" >&3
        found=$(answer "$n")
        [ "$found" != "orders are in the old place" ] || break
    done
    same "$found" "orders are in the old place" "the answer after the reconcile"
    say "and the same psql: $found"
    exec 3>&-
    wait $session
}

# The psql of the Postgres that runs here, or any.
postgres=$(scripts/ensure-postgres.sh | sed -n 's/^Postgres: .* in //p')
[ ! -x "$postgres/psql" ] || PATH=$postgres:$PATH
if command -v psql >/dev/null; then
    moving=$(basename "$free" .yaml)
    cat >"$fleet/tenants/copy.yaml" <<'YAML'
apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: copy }
spec:
  tier: free
YAML
    small "egressPerMonth: 2Mi" reject
    # Scenes over one running router, each on its own.
    all_at_one_address
    a_tenant_meets_its_ceilings
    one_is_suspended
    a_route_changes_under_an_open_session
else
    title "8. All tenants at one address"
    say "not shown: it needs psql, and neither $postgres nor the PATH has one"
fi

title "Done"
say "o7s events shows all of it:"
o7s events -f "$fleet" --limit 3
