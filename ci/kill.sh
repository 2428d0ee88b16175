#!/usr/bin/env bash
# Kills a process at every instruction of every operation, in every mode, or at a sample of them
# (the default, under four minutes). Ends with `points=N violations=V controls_caught=C/M`; fails if
# a violation was found, a control missed, or tracing is not permitted. `--full` takes all points, but
# for the rows that are called samples; other options as `shm-kill --help` says. What is killed is the
# optimised code that users run. docs/reliability.md has the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- --points 20
cargo build --release --quiet -p shm-kill
exec "${CARGO_TARGET_DIR:-target}/release/shm-kill" "$@"
