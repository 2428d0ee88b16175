#!/usr/bin/env bash
# The documentation builds without a warning. The examples in it and in the READMEs are run by
# `cargo test --doc`, as a part of `cargo test --workspace`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features
