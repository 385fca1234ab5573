#!/usr/bin/env bash
# No argument: cron in the foreground, on the schedule that DATA_CRON_TIME sets.
# Arguments are collector.py's: collect, check, status ...
#
# Cron needs root; a run does not get it: collector.py becomes PUID:PGID before it does anything.
# Root itself may have no more here than CHOWN, SETGID and SETUID, so what touches the data folder
# or a run is done as its owner.
set -Eeuo pipefail

data=${DATA_DIR:-/app/data} data=${data#[\"\']} data=${data%[\"\']} # docker run --env-file keeps quotes
as_owner=() # the words before a command that make it PUID:PGID; none where that is who we are

_main() {
    case ${1-} in
        '') exec tini -s -- "$0" schedule ;;
        schedule) take_over; schedule ;;
        scheduled) cron_environment; exec collector.py collect ;;
        *) take_over; exec collector.py "$@" ;;
    esac
}

stop_with() { printf 'entrypoint: %s\n' "$1" >&2; exit "${2:-2}"; }

# By default the data folder's owner, 1000 where that is root. What is no number collector.py reports.
find_owner() {
    [[ $(id -u) == 0 ]] || return 0
    local uid gid
    read -r uid gid < <(stat -c '%u %g' "$data" 2>/dev/null || echo 0 0)
    export PUID=${PUID-} PGID=${PGID-}
    PUID=${PUID//[[:space:]\"\']/} PGID=${PGID//[[:space:]\"\']/}
    PUID=${PUID:-$((uid ? uid : 1000))}
    [[ $gid != 0 && $uid == "$PUID" ]] || gid=$PUID
    PGID=${PGID:-$gid}
    [[ $PUID:$PGID =~ ^[0-9]+:[0-9]+$ && $PUID != 0 ]] || return 0
    become=(setpriv "--reuid=$PUID" "--regid=$PGID" --clear-groups --no-new-privs)
    as_owner=("${become[@]}" --inh-caps=-all)
    "${as_owner[@]}" true 2>/dev/null || stop_with 'root may not become another user here: add the capabilities CHOWN, SETGID and SETUID (cap_add), or start the container with --user and the argument "collect", from a scheduler of your own.'
}

# The folder and what the collector wrote in it may be root's: made by Docker, or an older version's.
take_over() {
    find_owner
    ((${#as_owner[@]})) || return 0
    [[ -d $data ]] || mkdir -p "$data" 2>/dev/null || stop_with "$data does not exist and cannot be made: mount a folder there"
    [[ $(stat -c %u:%g "$data") == "$PUID:$PGID" ]] || chown "$PUID:$PGID" "$data" 2>/dev/null || true
    "${as_owner[@]}" test -w "$data" -a -x "$data" || stop_with "$data belongs to $(stat -c %u:%g "$data"), mode $(stat -c %a "$data"): $PUID:$PGID cannot write there. Mount a folder that is not read-only; set PUID and PGID to its owner, or change its owner on the host."
    local left ours=(env -C "$data" find . -mindepth 1 -type d ! -path './.collector*' -prune -o
        '(' -path './.collector*' -o -name '*pexHistory*.csv*' -o -name 'data_collector.log*' ')')
    "${become[@]}" --inh-caps=-all,+chown --ambient-caps=+chown "${ours[@]}" \
        '(' ! -user "$PUID" -o ! -group "$PGID" ')' -execdir chown -h "$PUID:$PGID" '{}' ';' 2>/dev/null || true
    left=$("${as_owner[@]}" "${ours[@]}" ! -user "$PUID" ! -type l ! -writable -print -quit)
    [[ -z $left ]] || stop_with "$data/${left#./} is not writable for $PUID:$PGID and cannot be handed over: change its owner on the host."
}

schedule() {
    [[ $(id -u) == 0 ]] || stop_with 'cron needs root: start the container without --user (the collection itself runs as PUID:PGID), or with the argument "collect", from a scheduler of your own.'
    local dir crontab status=0 at_start=${DATA_RUN_ON_START-}
    for dir in /run /tmp /var/spool/cron/crontabs; do
        [[ -w $dir ]] || stop_with "cron must write to $dir: with a read-only root add --tmpfs /run --tmpfs /tmp --tmpfs /var/spool/cron/crontabs:mode=1730"
    done
    crontab=$(collector.py crontab)
    (umask 077 && printf '%s\n' "$crontab" >/var/spool/cron/crontabs/root)

    exec 3>&1 # the crontab sends a run's output here
    # Cron logs to syslog, which a container has none of; with a debug flag the lines go to stderr.
    cron -f -L 5 -x misc 2> >(exec sed -u 's/^log_it: /cron: /; /^debug flags/d' >&2) &
    cron=$!
    trap stop TERM INT
    case ${at_start//[[:space:]\"\']/} in
        [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn] | 1) collector.py collect --if-due & ;;
    esac
    wait "$cron" || status=$?
    stop_with "cron ended unexpectedly (status $status)" 1
}

# A run under way gets the time to roll back and to say so. It holds the lock and wrote its PID there.
stop() {
    trap '' TERM INT
    kill "$cron"
    # shellcheck disable=SC2016 # for the inner shell to expand
    "${as_owner[@]}" bash -c 'cd "$1/.collector" && [[ -e lock ]] && ! flock -n lock true && pid=$(<lock) &&
        grep -qs collector.py "/proc/$pid/cmdline" && kill -TERM "$pid" && flock -w 4 lock true' - "$data" 2>/dev/null || true
    exit 0
}

# Cron starts its jobs without the container's environment, and no file may hold the password: it is
# read from cron itself. What bash refuses to set (its own variables, odd names) is no setting of ours.
cron_environment() {
    local pair pairs
    mapfile -t -d '' pairs <"/proc/$(</run/crond.pid)/environ"
    for pair in "${pairs[@]}"; do
        # shellcheck disable=SC2163 # it is a pair
        export "$pair" 2>/dev/null || true
    done
}

_main "$@"
