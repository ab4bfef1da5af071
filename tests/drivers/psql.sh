#!/usr/bin/env bash
# psql: queries, a failed transaction, \copy both ways, prepared statements, \d, cancel by Ctrl-C, a crowd on a small pool.
set -euo pipefail
export PGHOST=localhost PGPORT=$ROUTER_PORT PGUSER=$ROUTER_USER PGPASSWORD=$ROUTER_PASSWORD PGCONNECT_TIMEOUT=10
version="psql $(psql --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/')"
failed=0

same() { [ "$1" = "$2" ] || { printf 'expected %q, found %q\n' "$2" "$1" >&2; return 1; }; }
ask() { timeout 30 psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

check() {
    local table=psql_$1
    local url=postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE
    same "$(env -u PGUSER -u PGPASSWORD -u PGHOST -u PGPORT -u PGDATABASE timeout 30 psql "$url" -XAtqc 'SELECT current_user')" \
        "$PGUSER" || return 1
    same "$(ask -c "SELECT 'naïve ☃', NULL, 7")" 'naïve ☃||7' || return 1
    ask -c "DROP TABLE IF EXISTS $table" -c "CREATE TABLE $table (n int)" 2>/dev/null || return 1
    same "$(seq 20000 | ask -c "\\copy $table FROM STDIN" -c "\\copy (SELECT * FROM $table) TO STDOUT" | wc -l)" 20000 ||
        return 1
    # The failed transaction is rolled back, and the session goes on.
    same "$(psql -XAtq 2>/dev/null <<SQL
BEGIN; TRUNCATE $table; SELECT nothing; COMMIT;
PREPARE one AS SELECT count(*) FROM $table; EXECUTE one; DEALLOCATE one;
SET work_mem = '123kB';
SHOW work_mem;
SQL
)" $'20000\n123kB' || return 1
    ask -c "\\d $table" | grep -q '^n|integer' || return 1
    psql -Xq -c 'SELECT pg_sleep(20)' >/dev/null 2>"$log" &
    local sleeper=$!
    sleep 0.7
    kill -INT $sleeper
    wait $sleeper && return 1
    grep -q 'canceling statement due to user request' "$log" || return 1
    ask -c "UPDATE $table SET n = 0 WHERE n = 1" || return 1
    local crowd=()
    for _ in 1 2 3 4 5 6; do
        ask -c 'BEGIN' -c "UPDATE $table SET n = n - 1 WHERE n <= 0" -c 'COMMIT' &
        crowd+=($!)
    done
    wait "${crowd[@]}" || return 1
    same "$(ask -c "SELECT min(n) FROM $table")" -6 || return 1
    ! PGPASSWORD=wrong ask -c 'SELECT 1' 2>"$log" || return 1
    grep -q 'password authentication failed' "$log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Job control: a program started in the background would ignore Ctrl-C without it.
set -m
for pooling in transaction session; do
    for way in clear tls; do
        export PGDATABASE=$ROUTER_DATABASE~$pooling PGSSLMODE=disable PGSSLROOTCERT=$ROUTER_CA
        [ $way = clear ] || PGSSLMODE=verify-full
        mode=$(printf '%-18s %-12s %-6s' "$version" $pooling $way)
        if check "${pooling}_$way"; then
            echo "$mode ok     urls, queries, transactions, prepared, copies, cancels, settings, crowds, strangers"
        else
            echo "$mode FAILED"
            failed=1
        fi
    done
done
exit $failed
