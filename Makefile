# `make demo` and `make test` do all of their own set-up; a Rust toolchain, a C compiler and make are assumed.
# One set of features and flags for all targets, so that nothing is built twice.
SHELL := /bin/sh
export PATH := $(PATH):$(HOME)/.cargo/bin

# `cargo test` is the fallback where nextest is not installed.
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo "cargo nextest run" || echo "cargo test")

.PHONY: help build demo test check quick it bench-router bench-neighbours test-railway-cli test-railway snap lint toolchain postgres test-drivers
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: toolchain ## target/debug/o7s
	@echo "building o7s (a first build takes a few minutes)"
	@# With the test binary, because without it Cargo would build the dependencies a second time for `make test`.
	@cargo build --locked --bin o7s --test it

demo: postgres build ## the narrated tour over a local Railway, under a minute after the build
	@scripts/demo.sh

test: postgres ## all tests, the fast ones first
	@$(RUN_TESTS) --locked --lib
	@$(RUN_TESTS) --locked --test it

check: lint test ## formatting, clippy, all tests

lint: toolchain ## formatting and clippy, warnings are errors
	@cargo fmt --check
	@cargo clippy --locked --all-targets -- -D warnings
	@cargo clippy --locked --all-targets --no-default-features -- -D warnings

quick: toolchain ## unit tests only
	@$(RUN_TESTS) --locked --lib

it: postgres ## integration tests only
	@$(RUN_TESTS) --locked --test it

bench-router: postgres ## the router beside PgBouncer and a bare byte copy; ROUNDS=1 for a quick look
	@scripts/ensure-pgbouncer.sh
	@cargo build --locked --release --bin o7s --example byte_copy --example active_tenants
	@benches/router.py target/release/o7s target/release/examples/byte_copy target/release/examples/active_tenants

bench-neighbours: postgres ## what one tenant's floods do to the 19 others of its instance; takes ten minutes
	@cargo build --locked --release --bin o7s
	@benches/neighbours.py target/release/o7s

test-drivers: postgres build ## psql and drivers from the registries, through `o7s router`
	@scripts/test-drivers.sh

test-railway-cli: postgres ## Railway's own CLI on the local Railway; builds it first, which takes a while
	@scripts/railway-cli.sh

test-railway: toolchain ## the end-to-end suite on Railway itself; needs O7S_TEST_RAILWAY_TOKEN (docs/local-railway.md)
	@[ -n "$$O7S_TEST_RAILWAY_TOKEN" ] || { echo "set O7S_TEST_RAILWAY_TOKEN to an account or workspace token of Railway" >&2; exit 1; }
	@cargo test --locked --test it end_to_end::a_fleet_lives_its_whole_life_on_railway -- --exact --ignored --nocapture

snap: postgres ## accept changed snapshots; read the diff before you commit it
	@INSTA_UPDATE=always cargo test --locked --lib --test it

toolchain:
	@command -v cargo >/dev/null || { echo "no cargo on the PATH: install a Rust toolchain (see README.md)" >&2; exit 1; }

postgres: toolchain
	@scripts/ensure-postgres.sh
