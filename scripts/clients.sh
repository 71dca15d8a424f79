#!/usr/bin/env bash
# Installs what the tests run that other people wrote, beneath target/clients: tus-js-client and tuspy for uploads; the
# libraries of Standard Webhooks; redocly, schemathesis and makers of clients for the contract; linters of Dockerfiles and
# compose files. From npm, and from PyPI in Python environments. Versions stand in tests/clients/, tests/contract/ and
# tests/containers/. scripts/setup.sh calls it for the tests; quick and silent when nothing is missing. It changes nothing
# else on the machine.
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

# Packages of a package.json into a folder.
install_node() {
  local wanted=$1 folder=$2 purpose=$3
  is_made "$wanted" "$folder" && return 0
  say "installing $wanted from npm into $folder, for the tests of $purpose"
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$wanted" "$folder/"
  (cd "$folder" && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null) ||
    stop "npm could not install $wanted. The tests of $purpose need it; is the npm registry within reach?"
  cp "$wanted" "$folder/installed"
}

# Packages of a requirements.txt into a Python environment.
install_python() {
  local wanted=$1 folder=$2 purpose=$3
  is_made "$wanted" "$folder" && return 0
  say "installing $wanted from PyPI into $folder, for the tests of $purpose"
  mkdir -p "${folder%/*}"
  python3 -m venv --clear "$folder" || stop "no Python environment could be made in $folder."
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" ||
    stop "pip could not install $wanted. The tests of $purpose need it; is PyPI within reach?"
  cp "$wanted" "$folder/installed"
}

install_node tests/clients/package.json "$clients/node" "uploads and webhooks"
install_python tests/clients/requirements.txt "$clients/venv" "uploads and webhooks"
install_node tests/contract/package.json "$clients/contract-node" "the contract"
install_python tests/contract/requirements.txt "$clients/contract-venv" "the contract"
install_node tests/containers/package.json "$clients/containers-node" "the compose files"
install_python tests/containers/requirements.txt "$clients/containers-venv" "the images"
