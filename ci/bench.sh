#!/usr/bin/env bash
# Every benchmark but the long ones runs once, as a test: it works, and its checks of what it computed hold. For
# figures run `cargo bench -p shm-benches` on a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo bench --package shm-benches --all-features -- --test
