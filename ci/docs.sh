#!/usr/bin/env bash
# The documentation builds without a warning; the tests (as FILE::TEST) and scripts that it names and the files that
# it links to exist, and so do the tests of the mutants.
# The examples in it and in the READMEs are run by `cargo test --workspace`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features

status=0
missing() {
    echo "$1: $2"
    status=1
}

# FILE-STEM::TEST and loom models in tables and text.
pages=(README.md CONTRIBUTING.md docs/*.md shm-*/README.md)
while IFS=: read -r page name; do
    file=${name%%::*} test=${name##*::}
    # A module of unit tests.
    [ "$test" != tests ] || continue
    files=(shm-*/tests/"$file".rs)
    if [ ! -e "${files[0]}" ]; then
        # A path in a library, unless it is called as files of tests are.
        [[ ! $file =~ ^(crash|loom|prop|storm)_ ]] || missing "$page" "no file of tests $file"
        continue
    fi
    grep --quiet --word-regexp "fn $test" "${files[@]}" || missing "$page" "no test $name"
done < <(grep --only-matching --extended-regexp --with-filename '\b[a-z_0-9]+::[a-z_0-9]+\b' "${pages[@]}")

# MUTANT | WHAT IT BREAKS | FILE | TEST. The step killer's rows are not looked up.
while IFS='|' read -r mutant _ file test; do
    read -r file <<<"$file"
    read -r test <<<"$test"
    case $file in
        shm-kill) continue ;;
        shm_*) files=("${file/_/-}"/src) ;;
        *) files=(shm-*/tests/"$file".rs) ;;
    esac
    grep --quiet --recursive --word-regexp "fn ${test##*::}" "${files[@]}" || missing ci/mutants.txt "${mutant}by no test $test"
done < <(grep --invert-match --extended-regexp '^(#|$)' ci/mutants.txt)

while IFS=: read -r page script; do
    [ -x "$script" ] || missing "$page" "no script $script"
done < <(grep --only-matching --extended-regexp --with-filename '\bci/[a-z_]+\.sh\b' "${pages[@]}")

while IFS=: read -r page target; do
    target=${target#](}
    target=$(dirname "$page")/${target%%[)#]*}
    [ -e "$target" ] || missing "$page" "no file $target"
done < <(grep --only-matching --extended-regexp --with-filename '\]\([^)]+\)' "${pages[@]}" |
    grep --invert-match --extended-regexp '\]\((https?:|#)')
exit "$status"
