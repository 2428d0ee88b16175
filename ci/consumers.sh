#!/usr/bin/env bash
# What a user gets: each library is packaged as for crates.io, and a crate outside of this workspace
# that depends on that library alone is built from the packages and run (ci/consumers/LIBRARY).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Beside the sources a package has these files, and no others.
declare -a files=(.cargo_vcs_info.json Cargo.lock Cargo.toml Cargo.toml.orig
    CHANGELOG.md LICENSE-APACHE LICENSE-MIT README.md)

check_files() {
    local found
    found=$(tar --list --file "$1" | sed 's,^[^/]*/,,' | grep --invert-match '^\(src\|examples\)/.*\.rs$')
    diff <(printf '%s\n' "${files[@]}" | sort) <(sort <<<"$found") || {
        echo "$1: files are missing (<) or too many (>)"
        return 1
    }
}

cargo package --quiet --no-verify --allow-dirty --target-dir "$work/package" \
    "${libraries[@]/#/--package=}"

patches=
for library in "${libraries[@]}"; do
    crate=$(echo "$work/package/package/$library"-[0-9]*.crate)
    check_files "$crate"
    mkdir "$work/$library"
    tar --extract --file "$crate" --directory "$work/$library" --strip-components=1
    patches+="$library = { path = \"../$library\" }"$'\n'
done

for library in "${libraries[@]}"; do
    version=$(sed -n '/^\[package\]/,/^version/ s/^version = //p' "$work/$library/Cargo.toml")
    mkdir -p "$work/consumer-$library/src"
    cd "$work/consumer-$library"
    cp "$root/ci/consumers/$library/main.rs" src/
    # The versions that this workspace is tested with.
    cp "$root/Cargo.lock" .
    cat >Cargo.toml <<TOML
[package]
name = "consumer"
version = "0.0.0"
edition = "2021"

[dependencies]
$library = $version

[patch.crates-io]
$patches
TOML
    CARGO_TARGET_DIR=$work/target cargo build --quiet
    "$work/target/debug/consumer" >output
    diff "$root/ci/consumers/$library/expected" output
    echo "$library $version: built and run outside of the workspace"
    sed 's/^/    /' output
done
