#!/usr/bin/env bash
# The fuzz targets under AddressSanitizer, each for SHM_FUZZ_SECONDS (20); then the same targets with
# a planted fault of each kind, which they must find from nothing.
#
#   ci/fuzz.sh          the above
#   ci/fuzz.sh --full   ten million inputs for each target, then the planted faults
#
# Needs a nightly toolchain. Without one it fails; with SHM_CI_NO_NIGHTLY=1 it says SKIPPED instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_fuzz_version=0.13.2
targets=(segment_image segment_pokes value_ops queue_ops queue_image dict_ops dict_image list_ops codec_decode dynamic_decode)
# Target, fault (fuzz/src/planted.rs) and what the report of it says: one for each thing that the
# targets watch.
planted=(
    'segment_pokes length AddressSanitizer: (SEGV|heap-buffer-overflow)'
    'segment_pokes panic panicked at src/planted.rs'
    'segment_pokes permits panicked at src/planted.rs'
    'segment_pokes hang libFuzzer: timeout'
    'segment_pokes allocation an allocation of [0-9]+ bytes for a segment of'
    'segment_pokes descriptor a descriptor was left open|leaked'
    'segment_pokes item panicked at src/planted.rs'
    'value_ops discard panicked at src/script.rs'
    'value_ops zeros panicked at src/script.rs'
    'queue_ops order panicked at src/queue.rs'
    'queue_image waiting panicked at src/planted.rs'
    'dict_ops removal panicked at src/dict.rs'
    'dict_image entries panicked at src/planted.rs'
    'dict_image span panicked at src/planted.rs'
    'list_ops long panicked at src/list.rs'
    'dynamic_decode key panicked at src/dynamic.rs'
)
# In the last complete run of CI each was found within 12 s. How many inputs it takes changes much from run to run: the
# most that was seen is 146,000.
planted_limit=(-runs=1000000 -max_total_time=300)

seconds=${SHM_FUZZ_SECONDS:-20}
case ${1:-} in
    '') limit=-max_total_time=$seconds ;;
    --full) limit=-runs=10000000 ;;
    *) echo "usage: $0 [--full]" >&2 && exit 2 ;;
esac

if ! cargo +nightly --version >/dev/null 2>&1; then
    if [ "${SHM_CI_NO_NIGHTLY:-}" = 1 ]; then
        echo '######## SKIPPED: fuzzing needs a nightly toolchain, and there is none ########'
        exit 0
    fi
    echo 'Fuzzing needs a nightly toolchain (rustup toolchain install nightly), and there is none.' >&2
    echo 'To go without it, set SHM_CI_NO_NIGHTLY=1.' >&2
    exit 1
fi
# libFuzzer is C++.
if ! command -v c++ >/dev/null; then
    apt-get update --quiet && apt-get install --quiet --yes g++
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --version "$cargo_fuzz_version" --locked
fi

target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" /dev/shm/shm-fuzz-*' EXIT
# An input that takes longer than this hangs. A machine under load may stop a process for a second.
hang=-timeout=10
# What an input frees stays poisoned for longer than the input, as before, but no longer for thousands of others; and
# four frames tell who allocated.
export ASAN_OPTIONS=quarantine_size_mb=8:thread_local_quarantine_size_kb=64:malloc_context_size=4
# Bytes of an input: a script of some forty steps, a segment, or some rounds of changes. Those of libFuzzer's own
# limit, 4096, take several times as long and bring more of the same.
declare -A longest=(
    [segment_image]=1024 [segment_pokes]=512 [value_ops]=512 [queue_ops]=256 [queue_image]=512
    [dict_ops]=256 [dict_image]=512 [list_ops]=256 [codec_decode]=512 [dynamic_decode]=512
)

run() {
    cargo +nightly fuzz run "$1" --target-dir "$target_dir" "${@:2}" -max_len="${longest[$1]}"
}

cargo +nightly fuzz build --target-dir "$target_dir"
for target in "${targets[@]}"; do
    echo "---- $target"
    # Only the last lines, unless it finds something.
    if ! run "$target" -- "$limit" "$hang" -print_final_stats=1 \
        >"$scratch/log" 2>&1; then
        cat "$scratch/log"
        exit 1
    fi
    grep --extended-regexp '^#[0-9]+\s+DONE|average_exec_per_sec' "$scratch/log"
done

cargo +nightly fuzz build --target-dir "$target_dir" --features planted
missed=0
for line in "${planted[@]}"; do
    read -r target fault report <<<"$line"
    mkdir "$scratch/$fault"
    started=$SECONDS
    SHM_FUZZ_PLANTED=$fault run "$target" --features planted \
        "$scratch/$fault" -- "${planted_limit[@]}" "$hang" -artifact_prefix="$scratch/" \
        >"$scratch/log" 2>&1 || true
    if grep --quiet --extended-regexp "$report" "$scratch/log"; then
        echo "---- planted $fault: found after $((SECONDS - started)) s"
    else
        tail -n 5 "$scratch/log"
        echo "---- planted $fault: NOT FOUND"
        missed=$((missed + 1))
    fi
done
echo "targets=${#targets[@]} planted_found=$((${#planted[@]} - missed))/${#planted[@]}"
[ "$missed" = 0 ]
