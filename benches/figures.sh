#!/usr/bin/env bash
# The figures of docs/performance.md: what runs cost in requests, control queries and time, on a local Railway.
# Usage: benches/figures.sh [path of o7s]; writes only into a temporary folder, leaves nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
o7s=${1:-target/debug/o7s}
export NO_COLOR=1
dir=$(mktemp -d "${TMPDIR:-/tmp}/o7s-figures.XXXXXX")
chmod 755 "$dir"
finish() { "$o7s" local down --data "$dir/railway" >/dev/null 2>&1 || true; rm -rf "$dir"; }
trap finish EXIT

status() { "$o7s" local status --data "$dir/railway" --format json; }
number() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" | head -n 1; }
now() { date +%s%N; }
row() { printf '| %s | %s requests, %s of them mutations, %s reads of the whole project | %s s |\n' "$@"; }
# Runs a command and prints its cost under a title.
measure() {
    title=$1; shift
    before=($(status | number total) $(status | number mutations) $(status | number ReadLiveState || true))
    begun=$(now)
    "$@" >/dev/null 2>"$dir/err" || { cat "$dir/err" >&2; exit 1; }
    took=$(( ($(now) - begun) / 1000000 ))
    after=($(status | number total) $(status | number mutations) $(status | number ReadLiveState || true))
    row "$title" $((after[0] - before[0])) $((after[1] - before[1])) $((${after[2]:-0} - ${before[2]:-0})) \
        "$((took / 1000)).$(printf %03d $((took % 1000)))"
}

cp -r manifests "$dir/fleet"
eval "$("$o7s" local up --detach --data "$dir/railway")"
printf '| run | Railway | time |\n|---|---|---|\n'
both() { "$o7s" bootstrap -f "$dir/fleet" --yes && "$o7s" reconcile -f "$dir/fleet" --once --yes; }
measure "seed fleet (17 tenants) from nothing to routed" both
measure "no change, 17 tenants" "$o7s" reconcile -f "$dir/fleet" --once --yes

# Four pools made for 250 FREE tenants each.
for pool in 1 2 3 4; do
    cat >>"$dir/fleet/pools.yaml" <<YAML
---
apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: many$pool }
spec: { volume: 20Gi, tenantsPerInstance: 250, instances: { min: 1, max: 1 } }
YAML
done
"$o7s" reconcile -f "$dir/fleet" --once --yes >/dev/null 2>&1
for n in $(seq 1000); do
    printf -- '---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: { name: t%s }\nspec:\n  tier: free\n  placement: { pool: many%s }\n' \
        "$n" $((n % 4 + 1))
done >"$dir/fleet/many.yaml"
measure "1,000 more tenants in shared pools sized for them" "$o7s" reconcile -f "$dir/fleet" --once --yes
measure "no change, 1,017 tenants" "$o7s" reconcile -f "$dir/fleet" --once --yes
