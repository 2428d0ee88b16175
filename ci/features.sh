#!/usr/bin/env bash
# Each library without features, with each of its features alone, and with all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

# The feature names of a manifest: the keys of its [features] section.
features() {
    awk '/^\[/ { inside = ($0 == "[features]") } inside && /^[a-z0-9_-]+ *=/ { print $1 }' "$1"
}

check() {
    printf '    %s\n' "$*"
    cargo clippy --quiet --package "$@" -- -D warnings
}

for library in "${libraries[@]}"; do
    check "$library" --no-default-features
    for feature in $(features "$library/Cargo.toml"); do
        check "$library" --no-default-features --features "$feature"
    done
    check "$library" --all-features
done
