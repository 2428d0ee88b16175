#!/usr/bin/env bash
# The models: every order of the steps of two or three threads, with at most two preemptions
# (LOOM_MAX_PREEMPTIONS), in the largest models with one. Beside them stand broken twins that must fail.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

modelled=()
for library in "${libraries[@]}"; do
    ! compgen -G "$library/tests/loom_*.rs" >/dev/null || modelled+=(--package "$library")
done

RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2} \
    cargo test --release "${modelled[@]}" --test 'loom_*' \
    --target-dir "${CARGO_TARGET_DIR:-target}/loom"
