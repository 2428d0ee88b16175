#!/usr/bin/env bash
# Kills a process at the instructions of every operation, in the states and modes of its cases: at a sample of
# them, another in each run (some three minutes on a quiet machine), or with `--full` at every one, but for the rows
# that are called samples. Ends with `points=N violations=V controls_caught=C/M`; fails if a violation was found, a
# control missed, a row looked at nothing, or tracing is not permitted. Other options as `shm-kill --help` says.
# What is killed is the optimised code that users run. docs/reliability.md has the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --release --quiet -p shm-kill
exec "${CARGO_TARGET_DIR:-target}/release/shm-kill" "$@"
