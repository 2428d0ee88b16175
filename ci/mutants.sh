#!/usr/bin/env bash
# The mutants: broken variants of the libraries (ci/mutants.txt), each of which some test must catch. Prints by
# which, and fails if one lives, or if a test fails without any mutant. With names, those alone.
# `--search NAME...` asks every test, the cheapest layer first, and stops at the first that catches.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

target=${CARGO_TARGET_DIR:-target}/mutants
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}
# What a property test finds here is no case to remember.
export PROPTEST_DISABLE_FAILURE_PERSISTENCE=true
# A test that says nothing for so long has caught nothing: its own watchdog ends it sooner.
limit=180

# The test binaries by name: `crash_mutex`, or `shm_core` for the unit tests of a crate.
declare -A binaries
binaries[shm-kill]=$target/release/shm-kill

# build FLAGS COMMAND...: builds, and notes the binaries.
build() {
    local line built name
    built=$(RUSTFLAGS="$1 --cfg shm_mutants ${RUSTFLAGS:-}" "${@:2}" --no-run 2>&1 | tee >(cat >&2))
    while read -r line; do
        if [[ $line =~ ^Executable.*\((.*/([a-z_]+)-[0-9a-f]+)\)$ ]]; then
            name=${BASH_REMATCH[2]}
            # Several libraries may have one of that name; a model's second build is the one that has models.
            until [ -z "${binaries[$name]:-}" ] || [[ $name == loom_* ]]; do name+=_; done
            binaries[$name]=${BASH_REMATCH[1]}
        fi
    done <<<"$built"
}

modelled=()
for library in "${libraries[@]}"; do
    ! compgen -G "$library/tests/loom_*.rs" >/dev/null || modelled+=(--package "$library")
done
RUSTFLAGS="--cfg shm_mutants ${RUSTFLAGS:-}" cargo build --release --package shm-kill --target-dir "$target"
build "" cargo test "${libraries[@]/#/--package=}" --package shm-kill --lib --bins --tests --target-dir "$target"
build "--cfg loom" cargo test --release "${modelled[@]}" --test 'loom_*' --target-dir "$target/loom"

layer() {
    case $1 in
        shm-kill) echo 'step killer' ;;
        storm*) echo 'kill storm' ;;
        loom_*) echo 'model' ;;
        prop_*) echo 'property test' ;;
        crash_*) echo 'crash test' ;;
        shm_*) echo 'unit test' ;;
        *) echo 'test' ;;
    esac
}

# run MUTANT BINARY TEST: the test's status; what it says stands in $said. No mutant is "".
said=
run() {
    local arguments=(--exact "$3") status=0
    [ "$2" != shm-kill ] || arguments=(--every 4 --budget 4 --only "$3")
    [ "$3" != all ] || arguments=(--skip twin --skip broken)
    [ "$2$3" != shm-killall ] || arguments=()
    [ "$2" != shm-kill ] || [ -z "$1" ] || arguments+=(--env "SHM_MUTANT=$1")
    said=$(env ${1:+SHM_MUTANT="$1"} timeout --kill-after=5 "$limit" \
        "${binaries[$2]}" "${arguments[@]}" 2>&1) || status=$?
    return "$status"
}

# Whether the test ran at all, and passed.
passes() {
    run "" "$@" && grep --quiet --extended-regexp '1 passed|points=[1-9]' <<<"$said"
}

# Whether the mutant was caught: by a failure, not by this script's own limit or for want of the binary.
caught() {
    local status=0
    run "$@" || status=$?
    case $status in
        0 | 124 | 125 | 126 | 127 | 137) return 1 ;;
        *) return 0 ;;
    esac
}

search() {
    local mutant=$1 layer binary name
    for layer in 'unit test' test 'property test' 'crash test' model 'step killer' 'kill storm'; do
        for binary in $(printf '%s\n' "${!binaries[@]}" | sort); do
            [ "$(layer "$binary")" = "$layer" ] || continue
            caught "$mutant" "$binary" all || continue
            name=$(grep --extended-regexp --max-count=1 'FAILED|violation' <<<"$said" || tail -n 1 <<<"$said")
            printf '%-40s %s: %s: %s\n' "$mutant" "$(layer "$binary")" "$binary" "$name"
            return
        done
    done
    printf '%-40s NOT CAUGHT\n' "$mutant"
}

if [ "${1:-}" = --search ]; then
    for mutant in "${@:2}"; do search "$mutant"; done
    exit
fi

# The table, without comments and without the mutants that nobody asked for.
wanted=" $* "
mutants=()
while IFS= read -r line; do
    [[ $line =~ ^([^ #][^ ]*) ]] || continue
    [ $# = 0 ] || [[ $wanted == *" ${BASH_REMATCH[1]} "* ]] || continue
    mutants+=("$line")
done <ci/mutants.txt

field() { cut --delimiter='|' --fields="$1" <<<"$2" | sed 's/^ *//; s/ *$//'; }

status=0
fail() {
    printf '%s\n' "$*"
    status=1
}

# A name that the sources spell out and the table does not have could not be chosen. Those of a model's faults are
# chosen by the model, too, and need not be in the table.
for name in $(grep --recursive --no-filename --only-matching --extended-regexp \
    'mutant\("[A-Za-z]+::[A-Za-z]+"\)' "${libraries[@]/%//src}" | cut --delimiter='"' --fields=2 | sort --unique); do
    grep --quiet "^$name |" ci/mutants.txt || fail "$name: not in ci/mutants.txt"
done
for name in "$@"; do
    grep --quiet "^$name |" ci/mutants.txt || fail "$name: not in ci/mutants.txt"
done
# A test that asks for a mutant.
line=$(grep --max-count=1 '| shm_core |' ci/mutants.txt)
said=$(SHM_MUTANT=Nobody::BreaksAnything "${binaries[shm_core]}" --nocapture --exact "$(field 4 "$line")" 2>&1) &&
    fail "a mutant that does not exist broke nothing"
grep --quiet 'no such mutant' <<<"$said" ||
    fail "a mutant that does not exist was taken for one"

# in_parallel FUNCTION LINE...: as many at a time as there are processors. Says in order what each says; how many of
# them failed stands in $failures. Some have several processes of their own; the controls run side by side as well, so that
# a test that fails for want of time alone is noticed there.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=
in_parallel() {
    local function=$1 n=0 line
    shift
    for line; do
        [ "$(jobs -pr | wc -l)" -lt "$(nproc)" ] || wait -n || true
        { "$function" "$line" && echo 0 >"$scratch/$n.failed" || echo 1 >"$scratch/$n.failed"; } >"$scratch/$n.said" &
        n=$((n + 1))
    done
    wait
    failures=0
    for ((n = 0; n < $#; n++)); do
        cat "$scratch/$n.said"
        failures=$((failures + $(cat "$scratch/$n.failed")))
    done
}

# Without a mutant a test passes.
control() {
    passes "$(field 3 "$1")" "$(field 4 "$1")" && return
    printf 'control: without a mutant, %s: %s does not pass:\n%s\n' "$(field 3 "$1")" "$(field 4 "$1")" "$said"
    return 1
}

trial() {
    local mutant breaks binary name
    mutant=$(field 1 "$1") breaks=$(field 2 "$1") binary=$(field 3 "$1") name=$(field 4 "$1")
    if caught "$mutant" "$binary" "$name"; then
        printf '| `%s` | %s | %s `%s`: %s |\n' "$mutant" "$breaks" "$(layer "$binary")" "$binary" "$name"
    else
        printf '| `%s` | %s | NOTHING: %s: %s passes, or hangs |\n' "$mutant" "$breaks" "$binary" "$name"
        return 1
    fi
}

declare -A known
controls=()
for line in "${mutants[@]}"; do
    test=${line#*|*|}
    [ -n "${known[$test]:-}" ] || controls+=("$line")
    known[$test]=1
done
in_parallel control "${controls[@]}"
[ "$failures" = 0 ] || status=1

printf '\n| mutant | what it breaks | caught by |\n|---|---|---|\n'
in_parallel trial "${mutants[@]}"
count=$((${#mutants[@]} - failures))

printf '\nmutants=%d caught=%d\n' "${#mutants[@]}" "$count"
[ "$count" = "${#mutants[@]}" ] || status=1
exit "$status"
