#!/usr/bin/env bash
# `o7s plan --live` of N unchanged tenants beside `terraform plan` of N unchanged built-in resources: CPU seconds (user and
# system) and peak memory, the least of three runs each, both sides in one run. Without terraform on the PATH only o7s is
# measured. Usage: benches/plan_live.sh [N...]; writes only into a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --locked --release --bin o7s
cargo build --locked --example generate_fleet
o7s=$PWD/target/release/o7s
generate=$PWD/target/debug/examples/generate_fleet
export NO_COLOR=1 CHECKPOINT_DISABLE=1 TF_CLI_CONFIG_FILE=/dev/null
dir=$(mktemp -d "${TMPDIR:-/tmp}/o7s-plan-live.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# Runs a command three times; prints its least CPU seconds, least elapsed seconds and least peak memory in MB.
measure() {
    local run
    for run in 1 2 3; do
        /usr/bin/env time -f '%U %S %e %M' -o "$dir/time" -- "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }
        tail -n 1 "$dir/time"
    done | awk '{ cpu = $1 + $2; if (NR == 1 || cpu < c) c = cpu; if (NR == 1 || $3 < e) e = $3; if (NR == 1 || $4 < m) m = $4 }
        END { printf "%.2f %.2f %d\n", c, e, m / 1000 }'
}

# The smallest resource terraform has built in, as often as asked for, and the state in which all of it exists.
terraform_fleet() {
    mkdir -p "$dir/terraform"
    printf 'resource "terraform_data" "tenant" {\n  count = %s\n  input = "free"\n}\n' "$1" >"$dir/terraform/main.tf"
    awk -v n="$1" -v version="$(terraform version | awk 'NR == 1 { sub("v", "", $2); print $2 }')" 'BEGIN {
        printf "{\"version\":4,\"terraform_version\":\"%s\",\"serial\":1,\"lineage\":\"o7s\",\"outputs\":{},\"check_results\":null,", version
        printf "\"resources\":[{\"mode\":\"managed\",\"type\":\"terraform_data\",\"name\":\"tenant\","
        printf "\"provider\":\"provider[\\\"terraform.io/builtin/terraform\\\"]\",\"instances\":["
        text = "{\"value\":\"free\",\"type\":\"string\"}"
        for (i = 0; i < n; i++)
            printf "%s{\"index_key\":%d,\"schema_version\":0,\"sensitive_attributes\":[],\"attributes\":{\"id\":\"%08d\",\"input\":%s,\"output\":%s,\"triggers_replace\":null}}", i ? "," : "", i, i, text, text
        print "]}]}"
    }' >"$dir/terraform/terraform.tfstate"
    terraform -chdir="$dir/terraform" init -no-color >/dev/null
}

printf '| N | o7s CPU s | o7s elapsed s | o7s MB | terraform CPU s | terraform MB | ratio |\n|---|---|---|---|---|---|---|\n'
for n in "${@:-10000}"; do
    rm -rf "$dir/manifests" "$dir/terraform"
    "$generate" --tenants "$n" --manifests "$dir/manifests" --live "$dir/live.json"
    ours=($(measure "$o7s" plan -f "$dir/manifests" --live "$dir/live.json"))
    grep -q "^No changes" "$dir/out" || { cat "$dir/out" >&2; exit 1; }
    theirs=(- - -) ratio=-
    if command -v terraform >/dev/null; then
        terraform_fleet "$n"
        theirs=($(measure terraform -chdir="$dir/terraform" plan -refresh=false -no-color))
        grep -q "No changes" "$dir/out" || { cat "$dir/out" >&2; exit 1; }
        ratio=$(awk -v a="${theirs[0]}" -v b="${ours[0]}" 'BEGIN { printf "1/%.0f", a / b }')
    fi
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$n" "${ours[@]}" "${theirs[0]}" "${theirs[2]}" "$ratio"
done
