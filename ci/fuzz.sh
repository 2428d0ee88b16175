#!/usr/bin/env bash
# The fuzz targets under AddressSanitizer, each for SHM_FUZZ_SECONDS (20); then the same targets with
# a planted fault of each kind, which they must find from nothing.
#
#   ci/fuzz.sh                     the above
#   ci/fuzz.sh --full              ten million inputs for each target, then the planted faults
#   ci/fuzz.sh --full TARGET...    ten million inputs for each of these
#
# Of the ten million, nine are run in a build that is more than twice as fast, without debug assertions and without
# tracing of comparisons; the last million with both, on the corpus of the others. Two processes share a corpus,
# fuzz/corpus/TARGET. What they say goes to SHM_FUZZ_LOGS (target/fuzz/logs).
#
# Needs a nightly toolchain, and installs one if there is none. Where that cannot be it fails; with SHM_CI_NO_NIGHTLY=1
# it installs none, says SKIPPED and ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_fuzz_version=0.13.2
targets=(segment_image segment_pokes value_ops queue_ops queue_image dict_ops dict_image list_ops codec_decode dynamic_decode)
# Target, fault (fuzz/src/planted.rs) and what the report of it says: each target has one at
# least.
planted=(
    'segment_image permits panicked at src/planted.rs'
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
    'codec_decode round panicked at src/codec.rs'
    'dynamic_decode key panicked at src/dynamic.rs'
)
# In the last complete run of CI each was found within 12 s. How many inputs it takes changes much from run to run: the
# most that was seen is 146,000.
planted_limit=(-runs=1000000 -max_total_time=300)

seconds=${SHM_FUZZ_SECONDS:-20}
full=
case ${1:-} in
    '') ;;
    --full)
        full=1
        shift
        # Those that are named, without the planted faults.
        if [ $# -gt 0 ]; then
            targets=("$@")
            planted=()
        fi
        ;;
    *) echo "usage: $0 [--full [TARGET...]]" >&2 && exit 2 ;;
esac

if ! cargo +nightly --version >/dev/null 2>&1; then
    if [ "${SHM_CI_NO_NIGHTLY:-}" = 1 ]; then
        echo '######## SKIPPED: fuzzing needs a nightly toolchain, and there is none ########'
        exit 77
    fi
    if ! rustup toolchain install nightly --profile minimal; then
        echo 'Fuzzing needs a nightly toolchain, and none could be installed.' >&2
        echo 'To go without it, set SHM_CI_NO_NIGHTLY=1.' >&2
        exit 1
    fi
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
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch" /dev/shm/shm-fuzz-*' EXIT
# An input that takes longer than this hangs. A machine under load may stop a process for a second.
hang=-timeout=10
# What an input frees stays poisoned for longer than the input, as before, but no longer for thousands of others; and
# four frames tell who allocated.
export ASAN_OPTIONS=quarantine_size_mb=8:thread_local_quarantine_size_kb=64:malloc_context_size=4
# Bytes of an input: a script of some forty steps, a segment, or some rounds of changes. Those of libFuzzer's own
# limit, 4096, take several times as long and bring more of the same.
declare -A longest=(
    [segment_image]=1024 [segment_pokes]=256 [value_ops]=512 [queue_ops]=128 [queue_image]=256
    [dict_ops]=128 [dict_image]=256 [list_ops]=160 [codec_decode]=512 [dynamic_decode]=512
)

run() {
    cargo +nightly fuzz run "$1" --target-dir "$target_dir" "${@:2}" -max_len="${longest[$1]}"
}

# So many inputs in two processes with one corpus, of the binaries in a directory; a line that says how fast.
share() {
    local target=$1 binaries=$2 runs=$3 started=$SECONDS executed=0 n units
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    for n in 1 2; do
        "$binaries/$target" "fuzz/corpus/$target" -runs=$((runs / 2)) "$hang" \
            -max_len="${longest[$target]}" -artifact_prefix="fuzz/artifacts/$target/" \
            -print_final_stats=1 "${@:4}" >"$logs/$target.$n.log" 2>&1 &
    done
    for n in 1 2; do
        if ! wait -n; then
            kill $(jobs -p) 2>/dev/null || true
            tail -n 100 "$logs/$target".[12].log
            exit 1
        fi
    done
    for n in 1 2; do
        units=$(awk '/number_of_executed_units/ { print $2 }' "$logs/$target.$n.log")
        executed=$((executed + units))
    done
    local took=$((SECONDS - started))
    echo "$executed inputs in $took s, $((executed / (took > 0 ? took : 1))) a second"
}

if [ -n "$full" ]; then
    logs=${SHM_FUZZ_LOGS:-$target_dir/logs}
    mkdir -p "$logs"
    built=x86_64-unknown-linux-gnu/release
    cargo +nightly fuzz build --target-dir "$target_dir/bulk" -O --no-trace-compares
    cargo +nightly fuzz build --target-dir "$target_dir"
    for target in "${targets[@]}"; do
        echo "---- $target"
        # Neither the bookkeeping of entropic scheduling nor that of stack frames that were left is worth its time here.
        ASAN_OPTIONS=$ASAN_OPTIONS:detect_stack_use_after_return=0 \
            share "$target" "$target_dir/bulk/$built" 9000000 -entropic=0
        share "$target" "$target_dir/$built" 1000000
    done
else
    cargo +nightly fuzz build --target-dir "$target_dir"
    for target in "${targets[@]}"; do
        echo "---- $target"
        # Only the last lines, unless it finds something.
        if ! run "$target" -- -max_total_time="$seconds" "$hang" -print_final_stats=1 \
            >"$scratch/log" 2>&1; then
            cat "$scratch/log"
            exit 1
        fi
        grep --extended-regexp '^#[0-9]+\s+DONE|average_exec_per_sec' "$scratch/log"
    done
fi
if [ ${#planted[@]} = 0 ]; then
    exit 0
fi

cargo +nightly fuzz build --target-dir "$target_dir" --features planted
missed=0
for line in "${planted[@]}"; do
    read -r target fault report <<<"$line"
    mkdir "$scratch/$target.$fault"
    started=$SECONDS
    SHM_FUZZ_PLANTED=$fault run "$target" --features planted \
        "$scratch/$target.$fault" -- "${planted_limit[@]}" "$hang" -artifact_prefix="$scratch/" \
        >"$scratch/log" 2>&1 || true
    if grep --quiet --extended-regexp "$report" "$scratch/log"; then
        echo "---- planted $fault ($target): found after $((SECONDS - started)) s"
    else
        tail -n 5 "$scratch/log"
        echo "---- planted $fault ($target): NOT FOUND"
        missed=$((missed + 1))
    fi
done
echo "targets=${#targets[@]} planted_found=$((${#planted[@]} - missed))/${#planted[@]}"
[ "$missed" = 0 ]
