#!/usr/bin/env bash
# The linters of the Dockerfiles and of the compose files, with the rules in tests/containers/. `make check` and
# tests/it/compose.rs call it. Builds and starts nothing, and needs no container engine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$(realpath "${CARGO_TARGET_DIR:-target}")/clients
readonly tools

if [[ ! -e $tools/containers-venv/installed || ! -e $tools/containers-node/installed ]]; then
  echo "containers: the linters are not there. Run: scripts/setup.sh test" >&2
  exit 1
fi
"$tools/containers-venv/bin/hadolint" --failure-threshold style Dockerfile.api Dockerfile.worker
"$tools/containers-node/node_modules/.bin/dclint" --config tests/containers/dclint.yaml --max-warnings 0 compose/compose.yaml compose/s3.yaml
