#!/usr/bin/env bash
# Lints of rustc and clippy, as errors: among them `unsafe` without a SAFETY comment, what is public
# without documentation, and std APIs that are newer than the declared `rust-version`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo clippy --workspace --all-targets --all-features -- -D warnings
