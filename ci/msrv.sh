#!/usr/bin/env bash
# The declared `rust-version`: the libraries are built with that very toolchain, which rustup installs.
# Where it cannot, this sees to it that no dependency asks for a newer one, and clippy (ci/clippy.sh)
# that the code uses no newer API of std.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
packages=("${libraries[@]/#/--package=}")

installed() { rustup toolchain list 2>/dev/null | grep --only-matching --max-count=1 "^${msrv//./\\.}[-.][^ ]*"; }
installed >/dev/null || timeout 120 rustup toolchain install "$msrv" --profile minimal || true
if toolchain=$(installed); then
    echo "building with $toolchain"
    RUSTUP_TOOLCHAIN=$toolchain cargo check "${packages[@]}" --all-features --locked \
        --target-dir "${CARGO_TARGET_DIR:-target}/msrv"
    exit
fi

# The packages that a user of the libraries builds, as `name version`.
wanted=$(cargo tree "${packages[@]}" --all-features --edges normal,build --prefix none \
    --format '{p}' | awk '{ print $1, substr($2, 2) }' | sort --unique)
# All packages, as `name version rust-version`.
asked=$(cargo metadata --format-version 1 --locked |
    grep --only-matching --perl-regexp \
        '"name":"[^"]*","version":"[^"]*","id":.*?"rust_version":("[^"]*"|null)' |
    sed -E 's/^"name":"([^"]*)","version":"([^"]*)".*"rust_version":"?([^"]*)"?$/\1 \2 \3/')

status=0
while read -r name version rust; do
    grep --quiet --line-regexp --fixed-strings "$name $version" <<<"$wanted" || continue
    [ "$rust" != null ] || rust=0
    newest=$(printf '%s\n%s\n' "$msrv" "$rust" | sort --version-sort | tail -n 1)
    [ "$newest" = "$msrv" ] || [ "${rust%.0}" = "$msrv" ] || {
        echo "$name $version asks for Rust $rust, and $msrv is declared"
        status=1
    }
done <<<"$asked"
[ "$status" != 0 ] ||
    echo "no toolchain $msrv here; none of $(wc -l <<<"$wanted") dependencies asks for a newer one"
exit "$status"
