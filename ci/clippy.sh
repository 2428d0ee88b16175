#!/usr/bin/env bash
# Lints of rustc and clippy, as errors: among them `unsafe` without a SAFETY comment, what is public
# without documentation, and std APIs that are newer than the declared `rust-version`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

cargo clippy --workspace --all-targets --all-features -- -D warnings
# The fuzz targets are a workspace of their own; clippy needs no nightly for them.
cargo clippy --manifest-path fuzz/Cargo.toml --all-features --target-dir "${CARGO_TARGET_DIR:-target}" \
    -- -D warnings
# The libraries with their mutants, where ci/mutants.sh builds them.
RUSTFLAGS="--cfg shm_mutants ${RUSTFLAGS:-}" cargo clippy "${libraries[@]/#/--package=}" --lib \
    --target-dir "${CARGO_TARGET_DIR:-target}/mutants" -- -D warnings
