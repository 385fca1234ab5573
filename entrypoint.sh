#!/usr/bin/env bash
# No argument: cron in the foreground, on the schedule that DATA_CRON_TIME sets.
# Arguments are collector.py's: collect, check, status ...
#
# Cron needs root; a run does not get it: collector.py becomes PUID:PGID before it does anything.
# Nor does root touch the data folder here: pexip_history/container/errands.py does, as the folder's owner.
set -Eeuo pipefail

_main() {
    no_secret_in_sight
    case ${1-} in
        '') exec tini -s -- "$0" schedule ;;
        schedule) in_data_folder take-over; schedule ;;
        scheduled) cron_environment; exec collector.py collect ;;
        *) in_data_folder take-over; exec collector.py "$@" ;;
    esac
}

root() { [[ $(id -u) == 0 ]]; } # bash takes EUID over from the environment

# Who has the same user ID on the host may look into a process until it has protected itself. A file on the host can be
# kept from them; and what root starts is root's until it has.
no_secret_in_sight() {
    local name
    root || for name in DEFAULT_MGR_SECRET DATA_PING_URL DATA_NOTIFY_URLS; do
        [[ -z ${!name-} ]] || stop_with "$name is in the environment of a container that was started as user $(id -u), and anyone who has that user ID on the host can read it: put it in a file and name that in ${name}_FILE, or start the container without --user"
    done
}

stop_with() { printf 'entrypoint: %s\n' "$1" >&2; exit "${2:-2}"; }

# As the folder's owner, who could read what the process was given: no secret, no more than it needs.
in_data_folder() {
    root || return 0
    env -i PATH="$PATH" PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 DATA_DIR="${DATA_DIR-}" PUID="${PUID-}" PGID="${PGID-}" \
        python3 -s -m pexip_history.container.errands "$1"
}

schedule() {
    root || stop_with 'cron needs root: start the container without --user (the collection itself runs as PUID:PGID), or with the argument "collect", from a scheduler of your own.'
    local dir crontab status=0 at_start=${DATA_RUN_ON_START-}
    for dir in /run /tmp /var/spool/cron/crontabs; do
        [[ -w $dir ]] || stop_with "cron must write to $dir: with a read-only root add --tmpfs /run --tmpfs /tmp --tmpfs /var/spool/cron/crontabs:mode=1730"
    done
    chmod go-w /run # where cron keeps the process id that cron_environment trusts
    crontab=$(collector.py crontab)
    (umask 077 && printf '%s\n' "$crontab" >/var/spool/cron/crontabs/root)

    exec 3>&1 # the crontab sends a run's output here
    # Cron logs to syslog, which a container has none of; with a debug flag the lines go to stderr. A run says itself
    # how it ended (exit 1, 2, 75); of one that was killed cron alone can tell.
    cron -f -L 4 -x misc 2> >(exec sed -u 's/^log_it: /cron: /; /^debug flags/d; / cron started$/d; / INFO (/d; /exit status \(1\|2\|75\))\?$/d' >&2) &
    cron=$!
    trap stop TERM INT
    case ${at_start//[[:space:]\"\']/} in
        [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn] | 1) collector.py collect --if-due & ;;
    esac
    collector.py check --at-start &
    wait "$cron" || status=$?
    stop_with "cron ended unexpectedly (status $status)" 1
}

# A run under way gets the time to roll back and to say so.
stop() {
    trap '' TERM INT
    kill "$cron"
    in_data_folder stop || true
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
