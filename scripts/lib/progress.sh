# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Long commands without thousands of lines: output goes to a file, its newest
# line is shown now and then. To be sourced by bash scripts.

# progress LABEL LOGFILE COMMAND... - run COMMAND with its output in LOGFILE; a
# line about every 10 s, one at the end, and the log's end when it fails.
progress() {
    local label=$1 log=$2 start=$SECONDS shown=0 child rc=0
    shift 2
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - start - shown)) -ge 10 ]; then
            shown=$((SECONDS - start))
            printf '%s: %d s  %s\n' "$label" "$shown" "$(progress_last_line "$log")"
        fi
    done
    wait "$child" || rc=$?
    if [ "$rc" -ne 0 ]; then
        tail -n 30 "$log" >&2
        printf '%s: failed after %d s, whole output in %s\n' "$label" $((SECONDS - start)) "$log" >&2
        return "$rc"
    fi
    printf '%s: done in %d s\n' "$label" $((SECONDS - start))
}

# Ninja and apt end lines with a carriage return or with none at all.
progress_last_line() {
    tail -c 400 "$1" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-90
}
