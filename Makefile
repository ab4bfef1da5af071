# `make demo` and `make test` do all of their own set-up; a Rust toolchain, a C compiler and make are assumed.
# One set of features and flags for all targets, so that nothing is built twice.
SHELL := /bin/sh
export PATH := $(PATH):$(HOME)/.cargo/bin

# `cargo test` is the fallback where nextest is not installed.
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo "cargo nextest run" || echo "cargo test")

.PHONY: help build demo test check quick it snap lint toolchain postgres
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

snap: postgres ## accept changed snapshots; read the diff before you commit it
	@INSTA_UPDATE=always cargo test --locked --lib --test it

toolchain:
	@command -v cargo >/dev/null || { echo "no cargo on the PATH: install a Rust toolchain (see README.md)" >&2; exit 1; }

postgres: toolchain
	@scripts/ensure-postgres.sh
