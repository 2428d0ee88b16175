# The libraries that are published, each before those that depend on it. Read by the other scripts.
# shellcheck shell=bash disable=SC2034
libraries=(shm-core shm-lock shm-value shm-queue shm-dict)
