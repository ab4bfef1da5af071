#!/bin/sh
# Says which PgBouncer the bench will run beside the router; installs the system's package where there is none and that is
# allowed. Without one the bench goes on, and its columns stay empty.
set -eu

found() {
    PATH=$PATH:/usr/sbin command -v pgbouncer
}

by_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    # Debian's package would start a PgBouncer of its own on port 6432.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    set -- install -y --no-install-recommends pgbouncer
    apt-get "$@" >&2 || { apt-get update >&2 && apt-get "$@" >&2; }
}

found >/dev/null || by_apt || true
program=$(found) || {
    echo "PgBouncer: none found and none installed; install the package pgbouncer to have it compared" >&2
    exit 0
}
echo "PgBouncer: $("$program" --version | head -n 1) in $program"
