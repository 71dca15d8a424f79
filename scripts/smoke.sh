#!/usr/bin/env bash
# Tries an installation that runs: is it well, does a file that is uploaded get probed, and do the workers' walls hold.
#   scripts/smoke.sh URL KEY        such as: scripts/smoke.sh http://127.0.0.1:8080 "$(cat key)"
# It uploads a tenth of a second of silence, waits for its job, reads the result and erases both. Needs curl. Prints one line a
# step and ends with 1 at the first that fails.
set -euo pipefail

readonly url=${1:?usage: scripts/smoke.sh URL KEY} key=${2:?usage: scripts/smoke.sh URL KEY}
folder=$(mktemp -d /tmp/ffprobe-api-smoke.XXXXXX)
trap 'rm -rf "$folder"' EXIT
# seconds that one look waits, the most that the API allows, and how many looks there are
readonly look=30 looks=4

stop() {
  printf 'smoke: %s\n' "$*" >&2
  exit 1
}

# The key goes in by a file: other users of the machine see arguments.
printf 'header = "X-API-Key: %s"\n' "$key" >"$folder/key"

call() {
  local answer
  answer=$(curl --silent --show-error --fail-with-body --max-time $((look + 15)) --config "$folder/key" "$@") ||
    stop "${*: -1} failed: $answer"
  printf '%s\n' "$answer"
}

# The first string or number of this name in the JSON on standard input. Enough for ids and states.
member() { grep -o "\"$1\":[^,}]*" | head -n 1 | sed 's/^[^:]*: *//; s/"//g'; }

# 8,000 samples a second, 16 bits, one channel, 1,600 bytes of silence (RIFF WAVE, little-endian).
make_wav() {
  printf 'RIFF\144\006\000\000WAVEfmt \020\000\000\000\001\000\001\000\100\037\000\000\200\076\000\000\002\000\020\000data\100\006\000\000'
  head -c 1600 /dev/zero
}

answer=$(call "$url/health/ready")
echo "ready: $(member status <<<"$answer"), version $(member version <<<"$answer")"

make_wav >"$folder/silence.wav"
answer=$(call -X POST -T "$folder/silence.wav" "$url/api/v1/uploads?filename=silence.wav")
upload=$(member id <<<"$answer")
[[ -n $upload ]] || stop "the answer to the upload has no id: $answer"
echo "uploaded: $upload"

answer=$(call -X POST -H 'Content-Type: application/json' -d "{\"source\":{\"type\":\"upload\",\"id\":\"$upload\"}}" "$url/api/v1/jobs")
job=$(member id <<<"$answer")
state=queued
for ((i = 0; i < looks; i++)); do
  [[ $state == queued || $state == running ]] || break
  answer=$(call "$url/api/v1/jobs/$job?wait=$look")
  state=$(member state <<<"$answer")
done
[[ $state == succeeded ]] || stop "the job is $state. Are there workers? $url/api/v1/probe/health tells. $answer"
answer=$(call "$url/api/v1/jobs/$job/result")
codec=$(member codec <<<"$answer")
[[ $codec == pcm_s16le ]] || stop "the result says '$codec' where the file has pcm_s16le"
echo "probed: $codec"

answer=$(call "$url/api/v1/probe/health")
walls=$(grep -o '"[a-z_]*":{[^{}]*"status":"active"[^{}]*}' <<<"$answer" | cut -d'"' -f2 | sort -u | paste -sd' ')
[[ -n $walls ]] || stop "no worker tells of an active protection: $answer"
echo "walls that hold: $walls"

# and its upload with it
call -X DELETE "$url/api/v1/jobs/$job" >"$folder/out"
echo "erased; all well"
