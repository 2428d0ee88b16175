#!/usr/bin/env bash
# Who may name what. A lint cannot say it: a re-export of std's atomic is std's atomic to clippy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

status=0

# only PATTERN WHAT FILE-PATTERN: code that matches PATTERN stands in files that match FILE-PATTERN.
# Comments do not count.
only() {
    local found
    found=$(grep --recursive --line-number --extended-regexp "$1" --include='*.rs' \
        "${libraries[@]/%//src}" |
        grep --extended-regexp --invert-match '^[^:]+:[0-9]+: *//' |
        grep --extended-regexp --invert-match "^($3)") || true
    [ -n "$found" ] || return 0
    printf '%s:\n%s\n\n' "$2" "$found"
    status=1
}

only '\blibc::' \
    'libc belongs to the files of shm-core that talk to the system' \
    'shm-core/src/(sys/|futex/|robust|fork\.rs|deadline\.rs)'
only '\b(std|core)::(sync::atomic|cell::UnsafeCell|hint::spin_loop)\b' \
    'atomics come from shm_core::sync, so that the models see them; but for what a process keeps to itself' \
    'shm-core/src/(sync/|fork\.rs|participant\.rs|(futex|robust)/model\.rs)'
only '\b(todo|unimplemented|dbg)!' 'unfinished code' '$^'

exit "$status"
