#!/usr/bin/env bash
# Installs what the tests of foreign upload clients run, beneath target/clients: tus-js-client from npm, and tuspy from PyPI
# in a Python environment. Versions stand in tests/clients/. scripts/setup.sh calls it for the tests; quick and silent when
# nothing is missing. It changes nothing else on the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly clients=${CARGO_TARGET_DIR:-target}/clients

say() { printf 'setup: %s\n' "$*" >&2; }

stop() {
  say "$@"
  exit 1
}

# The file is written last and holds what was asked for, so that a half-made or older folder is made again.
is_made() { cmp -s "$1" "$2/installed"; }

install_node() {
  say "installing tus-js-client from npm into $clients/node, for the tests of uploads"
  rm -rf "$clients/node"
  mkdir -p "$clients/node"
  cp tests/clients/package.json "$clients/node/"
  (cd "$clients/node" && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) ||
    stop "npm could not install tests/clients/package.json. The tests of uploads need it; is the npm registry within reach?"
  cp tests/clients/package.json "$clients/node/installed"
}

install_python() {
  say "installing $(<tests/clients/requirements.txt) from PyPI into $clients/venv, for the tests of uploads"
  mkdir -p "$clients"
  python3 -m venv --clear "$clients/venv" || stop "no Python environment could be made in $clients/venv."
  "$clients/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt ||
    stop "pip could not install tests/clients/requirements.txt. The tests of uploads need it; is PyPI within reach?"
  cp tests/clients/requirements.txt "$clients/venv/installed"
}

is_made tests/clients/package.json "$clients/node" || install_node
is_made tests/clients/requirements.txt "$clients/venv" || install_python
