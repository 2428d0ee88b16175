#!/usr/bin/env bash
# Runs every example of every library; each checks its own outcome and exits non-zero if it is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
for example in shm-*/examples/*.rs; do
    crate=${example%%/*}
    name=$(basename "$example" .rs)
    echo "+ cargo run --release -p $crate --example $name"
    cargo run --release --quiet -p "$crate" --example "$name" </dev/null
done
