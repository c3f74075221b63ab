#!/bin/sh
# Runs the daemon, and another one where it was killed; options are those of twistd pmdaemon. SIGTERM stops everything.
trap 'stopping=1; kill -TERM "$pid"' TERM INT

while :; do
    twistd -n --pidfile= pmdaemon "$@" &
    pid=$!
    while :; do
        wait "$pid"
        code=$?
        # A signal ends the waiting, not the daemon.
        kill -0 "$pid" 2>/dev/null || break
    done
    # A start that cannot succeed ends with 1 or 61.
    case $code in 0 | 1 | 61) exit "$code" ;; esac
    [ -z "$stopping" ] || exit "$code"
done
