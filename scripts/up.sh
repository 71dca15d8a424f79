#!/usr/bin/env bash
# Builds the release binaries and becomes `probectl up`. `make up` calls it. MEDIA=DIR adds one folder as a media root
# named after itself. Everything else (API_HOST, API_PORT, MEDIA_ROOTS, FFPROBE_API_STATE_DIR) probectl reads from the
# environment, where make puts its variables.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
  printf 'make up: %s\n' "$*" >&2
  exit 1
}

if [[ -n ${MEDIA:-} ]]; then
  dir=$(cd "$MEDIA" 2>/dev/null && pwd -P) || stop "MEDIA='$MEDIA' is not a folder that can be opened. Name an existing one."
  [[ $dir != *,* ]] || stop "the path of MEDIA may hold no comma: '$dir'. Rename the folder or link to it from another place."
  # A root's name is letters, digits, '-' and '_', at most 32.
  name=${dir##*/}
  name=${name//[^A-Za-z0-9_-]/-}
  name=${name:0:32}
  export MEDIA_ROOTS="${MEDIA_ROOTS:+$MEDIA_ROOTS,}${name:-media}=$dir"
fi

# make's own variables are no business of the processes that run for days.
unset MEDIA MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES

release=${CARGO_TARGET_DIR:-target}/release
[[ -x $release/probectl ]] || echo "make up: building the release binaries; the first build takes some minutes."
cargo build --release -p api -p worker -p cli
# exec: Ctrl-C and SIGTERM must reach probectl itself, which stops its children in order.
exec "$release/probectl" up
