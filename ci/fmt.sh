#!/usr/bin/env bash
# The layout of every source file, of the workspace and of the fuzz targets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --all --check
cargo fmt --all --check --manifest-path fuzz/Cargo.toml
