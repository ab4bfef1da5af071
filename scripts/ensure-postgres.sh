#!/bin/sh
# Says which Postgres demo and tests will run, in the order in which `o7s` itself looks; installs one where none is found.
set -eu
cd "$(dirname "$0")/.."
major_min=15

# A client-only package has a pg_config and no server, so each folder must prove itself.
works() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
    version=$("$1/postgres" --version) || return 1
    major=$(printf '%s\n' "$version" | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$major_min" ]
}

candidates() {
    pg_config --bindir 2>/dev/null || true
    find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -Vr
    find .o7s/postgres -name initdb -type f 2>/dev/null | sed 's|/initdb$||' | sort
}

found() {
    candidates | while read -r folder; do
        if works "$folder"; then
            printf '%s\n' "$folder"
            break
        fi
    done
}

if [ -n "${O7S_PG_BIN:-}" ]; then
    # Asked for by name: taken or refused, never passed over.
    works "$O7S_PG_BIN" && echo "Postgres: $version in $O7S_PG_BIN" && exit 0
    echo "O7S_PG_BIN=$O7S_PG_BIN holds no initdb and postgres of version $major_min or later: correct or unset it" >&2
    exit 1
fi
folder=$(found)
if [ -z "$folder" ]; then
    echo "Postgres: none found, installing one"
    scripts/install-postgres.sh
    folder=$(found)
fi
[ -n "$folder" ] && works "$folder" || {
    echo "what was installed is no Postgres $major_min or later; install one yourself and name its folder in O7S_PG_BIN" >&2
    exit 1
}
echo "Postgres: $version in $folder"
