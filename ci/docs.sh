#!/usr/bin/env bash
# The documentation builds without a warning, and every test, script and file that it names exists.
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
    [ -e "${files[0]}" ] || continue
    grep --quiet --word-regexp "fn $test" "${files[@]}" || missing "$page" "no test $name"
done < <(grep --only-matching --extended-regexp --with-filename '\b[a-z_0-9]+::[a-z_0-9]+\b' "${pages[@]}")

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
