#!/bin/sh
# How much room usage takes: the tables of the migrations, filled with generated rows of 10,000 tenants, measured.
#   benches/usage_size.sh postgresql://…/scratch [HOURS]
# The database must be empty; what is made there is left for a look. 24 hours take about a minute.
set -eu
url=$1 hours=${2:-24} tenants=10000
sql() { psql -X -q -v ON_ERROR_STOP=1 "$url" "$@"; }
sql -c 'CREATE SCHEMA o7s'
for file in "$(dirname "$0")"/../migrations/*.sql; do sql -1 -f "$file"; done
sql -c "INSERT INTO o7s.meter_places (tenant, instance)
    SELECT 'tenant-' || n, 'shared-' || n % 20 FROM generate_series(1, $tenants) n"
# Counters that nearly every tenant has in every hour: the rest are NULL.
columns='sessions, queries, reads, writes, other, rows, transactions, bytes_in, bytes_out, server_micros, connection_ms'
values='3 + p.id % 7, 900 + p.id, 700 + p.id, 150, 50, 4000 + p.id, 300, 200000 + p.id, 900000 + p.id, 5000000 + p.id, 3600000'
# An hour at a time, as it is set.
sql -c "DO \$\$ BEGIN FOR h IN 0..$hours - 1 LOOP
    INSERT INTO o7s.meter_hours (hour, place, $columns)
        SELECT '2026-01-01Z'::timestamptz + h * interval '1 hour', p.id, $values FROM o7s.meter_places p ORDER BY p.id;
    COMMIT;
    END LOOP; END \$\$"
sql -c "CREATE TABLE o7s.meter_minutes_sample PARTITION OF o7s.meter_minutes FOR VALUES FROM ('2026-01-01Z') TO ('2026-01-02Z')"
# Each minute is added to six times, as by a flush every ten seconds.
sql -c "INSERT INTO o7s.meter_minutes (minute, place, $columns)
    SELECT '2026-01-01Z'::timestamptz + m * interval '1 minute', p.id, $values
        FROM generate_series(0, 29) m, o7s.meter_places p ORDER BY m, p.id"
for _ in 1 2 3 4 5; do
    for m in 0 5 10 15 20 25; do
        sql -c "UPDATE o7s.meter_minutes SET queries = queries + 1
            WHERE minute >= '2026-01-01Z'::timestamptz + $m * interval '1 minute'
                AND minute < '2026-01-01Z'::timestamptz + ($m + 5) * interval '1 minute'"
        sql -c 'VACUUM o7s.meter_minutes_sample'
    done
done
sql -c 'INSERT INTO o7s.meter_days (day, place, '"$columns"') SELECT '"'2026-01-01Z'"'::timestamptz + d * interval '"'1 day'"', p.id, '"$values"'
    FROM generate_series(0, 29) d, o7s.meter_places p ORDER BY d, p.id'
sql -c 'VACUUM ANALYZE'
psql -X -A -t -F ' ' "$url" -c "
    SELECT name, count, bytes, 'bytes', bytes / count, 'a row;', full_rows, 'rows are', pg_size_pretty(full_rows * bytes / count)
    FROM (VALUES
        ('hours', (SELECT count(*) FROM o7s.meter_hours), pg_total_relation_size('o7s.meter_hours'), 90::bigint * 24 * $tenants),
        ('days', (SELECT count(*) FROM o7s.meter_days), pg_total_relation_size('o7s.meter_days'), 396::bigint * $tenants),
        ('minutes', (SELECT count(*) FROM o7s.meter_minutes), pg_total_relation_size('o7s.meter_minutes_sample'),
            3::bigint * 1440 * $tenants)
    ) AS level (name, count, bytes, full_rows)"
