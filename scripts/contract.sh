#!/usr/bin/env bash
# Tests openapi.json and the API against each other with tools that other people wrote: openapi-spec-validator and redocly
# read the document; schemathesis sends a running server what it allows and what it forbids, call by call, and compares the
# answers. `make check` calls it, and tests/it/contract.rs for a short run. scripts/setup.sh test installs the tools.
# With URL and API_KEY it asks that server, which has a media root with /test/sample.mp4; without them it starts one of its
# own and stops it. CONTRACT_EXAMPLES, CONTRACT_SEED and CONTRACT_SECONDS say how much, which and how long at the most.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly examples=${CONTRACT_EXAMPLES:-25} seed=${CONTRACT_SEED:-} seconds=${CONTRACT_SECONDS:-600}
target=$(realpath "${CARGO_TARGET_DIR:-target}")
readonly target
export PATH="$target/clients/contract-venv/bin:$target/clients/contract-node/node_modules/.bin:$PATH"
started=()
folder=""

stop() {
  printf 'contract: %s\n' "$*" >&2
  exit 1
}

# Runs on every way out: what was started here ends here.
finish() {
  ((${#started[@]} == 0)) || kill "${started[@]}" 2>/dev/null || true
  wait
  [[ -z $folder ]] || rm -rf "$folder"
}
trap finish EXIT

start_server() {
  cargo build --quiet -p api -p worker -p cli
  folder=$(mktemp -d /tmp/ffprobe-api-contract.XXXXXX)
  chmod 711 "$folder"
  FFPROBE_API_STATE_DIR=$folder/state "$target/debug/probectl" up --port 0 >"$folder/log" 2>&1 &
  started+=($!)
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    grep -qs 'Ctrl-C stops' "$folder/log" && break
    sleep 0.2
  done
  URL=$(sed -n 's|^FFprobe API *\(http://[0-9.:]*\).*|\1|p' "$folder/log")
  [[ -n $URL ]] || stop "the server did not start: $(tail -n 20 "$folder/log")"
  API_KEY=$(<"$folder/state/admin-api-key")
  export API_KEY
}

# A queue that schemathesis paused would leave every later job waiting.
keep_queues_open() {
  local queue
  while kill -0 "$$" 2>/dev/null && sleep 0.3; do
    for queue in fast scan; do
      curl --silent --output /dev/null -X POST -H "X-API-Key: $API_KEY" "$URL/api/v1/queues/$queue/resume" || true
    done
  done
}

[[ -e $target/clients/contract-venv/installed ]] || stop "the tools are not there. Run: scripts/setup.sh test"
openapi-spec-validator openapi.json
said=$(redocly lint --config tests/contract/redocly.yaml openapi.json 2>&1) || stop "redocly has found faults: $said"
echo "redocly: ${said##*$'\n'}"

[[ -n ${URL:-} ]] || start_server
keep_queues_open &
started+=($!)
options=(--url "$URL" --no-color --max-examples "$examples")
[[ -z $seed ]] || options+=(--seed "$seed")
document=$PWD/openapi.json
# nothing is left beside the sources
export HYPOTHESIS_STORAGE_DIRECTORY=$target/clients/hypothesis PYTHONDONTWRITEBYTECODE=1
cd tests/contract
timeout --kill-after=10 "$seconds" schemathesis --config-file schemathesis.toml run "$document" "${options[@]}"
