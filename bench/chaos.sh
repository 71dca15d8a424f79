#!/usr/bin/env bash
# A long storm: real workers, relays, APIs, PostgreSQL and Redis, thousands of jobs over HTTP, and faults in the order of
# a seed until the time is over. Fails if a job is lost, doubled or stuck. `make chaos` calls it.
#   bench/chaos.sh [SECONDS [JOBS [SEED]]]     or CHAOS_SECONDS, CHAOS_JOBS, CHAOS_SEED in the environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CHAOS_SECONDS=${1:-${CHAOS_SECONDS:-300}}
export CHAOS_JOBS=${2:-${CHAOS_JOBS:-}}
export CHAOS_SEED=${3:-${CHAOS_SEED:-}}
exec cargo test -p tests --test it -- --exact --ignored --nocapture chaos::a_long_storm_loses_doubles_and_leaves_nothing
