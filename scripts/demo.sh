#!/usr/bin/env bash
# The narrated tour: a fleet from nothing to routed on a local Railway, a change, a killed run, a change made by hand.
# Everything it says is checked; the first thing that is not true ends it. Writes only below .o7s/demo, leaves nothing
# running.
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

finish() {
    code=$?
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
kill -9 $run
wait $run 2>/dev/null || true
same "$(status | grep -c '"name": "')" $((services + 1)) "the number of services of the half-done run"
say "its service is there, empty; the next run finishes it:"
o7s reconcile -f "$fleet" --once --yes 2>/dev/null | tail -n 2
same "$(status | grep -c '"name": "')" $((services + 1)) "the number of services, nothing doubled"
o7s status tenant/zephyr -f "$fleet" | tail -n 1

title "7. Somebody removes a manifest"
rm "$fleet/tenants/zephyr.yaml"
show "o7s plan"
o7s plan -f "$fleet" | tail -n 3
o7s plan -f "$fleet" | grep -q '^= tenant/zephyr'
say "a missing file deletes nothing; data goes only with two keys"

title "Done"
say "o7s events shows all of it:"
o7s events -f "$fleet" --limit 3
