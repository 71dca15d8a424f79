#!/usr/bin/env bash
# Throughput and CPU of large uploads, beside nginx's DAV PUT to the same disk in the same run. `make uploads` calls it.
# nginx is needed for this only: root gets it from the distribution, anybody else is told how. It is never started as a
# service. Files of UPLOADS_GIB (2) go to TMPDIR, which should be on the disk that is to be measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have_nginx() { PATH=$PATH:/usr/sbin command -v nginx >/dev/null 2>&1; }

if ! have_nginx; then
  if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null 2>&1; then
    scripts/apt.sh nginx-light
  else
    printf 'bench: nginx is needed as the baseline. Install it, for example: sudo scripts/apt.sh nginx-light\n' >&2
    exit 1
  fi
fi
cargo build --quiet --release -p api -p bench
PATH=$PATH:/usr/sbin exec target/release/uploads --gib "${UPLOADS_GIB:-2}"
