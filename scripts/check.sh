#!/usr/bin/env bash
# Everything worth knowing before a push, cheapest first; stops at the first thing that is wrong. `make check` calls it.
# cargo-deny and shellcheck are used if they are installed: a missing one is said in a line, never an error. The drift of
# openapi.json and the rules on layers, lengths and headers (tests/it/tidy.rs) are ordinary tests of the suite.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '== %s\n' "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

step "format"
cargo fmt --all --check

step "shell scripts"
if have shellcheck; then
  shellcheck scripts/*.sh compose/*.sh compose/*/*.sh .ci/run
else
  echo "skipped: shellcheck is not installed (apt-get install shellcheck)"
fi

step "Dockerfiles and compose files"
scripts/containers.sh

step "dependencies: bans, licences, sources"
if have cargo-deny; then
  cargo deny --log-level warn check --hide-inclusion-graph bans licenses sources
else
  echo "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"
fi

step "lints"
cargo clippy --workspace --all-targets -- -D warnings

step "documentation"
# private items are in these pages, so links to them lead somewhere
RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --quiet

step "tests"
make --no-print-directory test
step "contract: openapi.json and the API against each other, with other calls each time"
scripts/contract.sh

step "all well"
