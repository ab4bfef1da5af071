#!/bin/sh
# Tries Railway's own command line on the local Railway (tests/it/railway_cli). Builds the published crate in debug mode,
# because only such a build can be pointed at another address, into .o7s/railway-cli, an ignored folder of this tree. The
# first time takes some ten to thirty minutes of two cores and 2 GB of disk while it builds; later runs find it there.
set -eu
cd "$(dirname "$0")/.."
version=5.71.0
root=${O7S_RAILWAY_CLI_ROOT:-.o7s/railway-cli}
program=$root/bin/railway

installed() { [ -x "$program" ] && [ "$("$program" --version)" = "railway $version" ]; }

if ! installed; then
    echo "building Railway's CLI $version into $root, which takes a while" >&2
    CARGO_TARGET_DIR=$root/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        cargo install --debug --locked --root "$root" "railwayapp@$version"
    rm -rf "$root/build"
    installed || { echo "$program is not version $version" >&2; exit 1; }
fi
export O7S_TEST_RAILWAY_CLI="$(cd "$root" && pwd)/bin/railway"
exec cargo test --locked --test it railway_cli::program -- --ignored --nocapture
