#!/usr/bin/env bash
# Who may name what. A lint cannot say it: a re-export of std's atomic is std's atomic to clippy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/libraries.sh

status=0

# The code of the libraries as FILE:LINE:TEXT: without comment lines, and without the unit tests,
# which stand at the end of a file.
code() {
    find "${libraries[@]/%//src}" -name '*.rs' -print0 | sort --zero-terminated |
        xargs --null awk '
            FNR == 1 { tests = 0 }
            /^ *#\[cfg\((all\()?test/ { tests = 1 }
            !tests && !/^ *\/\// { print FILENAME ":" FNR ":" $0 }'
}

# only PATTERN WHAT FILES: code that matches PATTERN stands in files that match FILES alone.
only() {
    local found
    found=$(code | grep --extended-regexp "^[^:]*:[0-9]*:.*$1" |
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
