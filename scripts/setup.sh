#!/usr/bin/env bash
# Makes sure this machine has what the build and `make up` need: Rust, a C compiler, ffmpeg, the PostgreSQL server
# binaries, redis-server, and curl with certificates for clients. With the argument `test`, also what only the tests need:
# faketime, for a worker with a wrong clock; openssl, for servers with TLS; nginx, for the proxy in front; a real S3 API, moto,
# in a Python environment under target/; node, npm, and foreign upload clients. `make up` and `make test` call it first, so it
# is quick and silent when nothing is missing. It looks here and decides; installing packages is scripts/apt.sh, which runs as
# root, and scripts/clients.sh, which does not. It never starts a service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly purpose=${1:-up}
# The S3 API of the tests; tests find it beside their own binaries. flask and flask-cors are what of moto[server] S3 needs.
readonly s3_api=${CARGO_TARGET_DIR:-target}/s3-api
readonly s3_packages=('moto[s3]==5.2.5' flask flask-cors)

say() { printf 'setup: %s\n' "$*" >&2; }

stop() {
  say "$@"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# initdb and postgres sit beside each other; Debian and Ubuntu keep them out of PATH.
have_postgres_server() {
  local initdb
  for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb || true)"; do
    [[ -x $initdb && -x ${initdb%/*}/postgres ]] && return 0
  done
  return 1
}

# Cargo.toml is the only place that names the version, so that the two cannot disagree.
wanted_rust() { sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' Cargo.toml; }

check_rust() {
  local wanted have_version how
  wanted=$(wanted_rust)
  how="Get it from https://rustup.rs, or bring an older one up to date with 'rustup update stable'."
  if ! have cargo; then
    [[ -x $HOME/.cargo/bin/cargo ]] && stop "cargo is installed but not in PATH. Run: . \"\$HOME/.cargo/env\""
    stop "Rust $wanted or newer is needed and 'cargo' was not found. $how"
  fi
  have_version=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
  [[ -n $have_version ]] || stop "'cargo --version' does not answer. Try it by hand; 'rustup default stable' often helps."
  # sort -V puts the older version first: when that is the wanted one, ours is new enough.
  [[ $(printf '%s\n%s\n' "$wanted" "$have_version" | sort -V | head -n 1) == "$wanted" ]] ||
    stop "Rust $wanted or newer is needed and this is $have_version. $how"
}

# Without any certificates no HTTPS client can be made, not even for a service on this machine.
have_certificates() {
  [[ -n ${SSL_CERT_FILE:-} || -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]] ||
    [[ -e /etc/ssl/cert.pem || -e /etc/ssl/ca-bundle.pem ]]
}

# Prints what is missing, one Debian package a line.
missing_packages() {
  have cc || printf 'gcc\nlibc6-dev\n'
  have make || echo make
  { have ffprobe && have ffmpeg; } || echo ffmpeg
  have_postgres_server || echo postgresql
  have redis-server || echo redis-server
  have curl || echo curl
  have_certificates || echo ca-certificates
  [[ $purpose == test ]] || return 0
  have faketime || echo faketime
  have openssl || echo openssl
  have nginx || echo nginx
  have node || echo nodejs
  have npm || echo npm
  have_venv || echo python3-venv
}

# Debian's python3 alone makes no environments: ensurepip is in python3-venv, which brings python3 along.
have_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

# The file is written last and says what was installed, so that a half-made or older environment is made again.
have_s3_api() { [[ $(cat "$s3_api/installed" 2>/dev/null) == "${s3_packages[*]}" ]]; }

install_s3_api() {
  say "installing ${s3_packages[0]} from PyPI into $s3_api, for the tests of S3 (half a minute)"
  mkdir -p "${s3_api%/*}"
  python3 -m venv --clear "$s3_api" || stop "no Python environment could be made in $s3_api."
  "$s3_api/bin/pip" install --quiet --disable-pip-version-check "${s3_packages[@]}" ||
    stop "pip could not install ${s3_packages[*]}. The tests of S3 need them; is PyPI within reach?"
  echo "${s3_packages[*]}" >"$s3_api/installed"
}

is_debian() { have apt-get && have dpkg; }

explain_by_hand() {
  say "These are missing (as Debian names them): ${missing[*]}. This system has no apt-get, so please install them:"
  if have dnf; then
    say "  sudo dnf install gcc make ffmpeg-free postgresql-server valkey valkey-compat-redis curl ca-certificates libfaketime openssl nginx python3 nodejs npm"
  elif have pacman; then
    say "  sudo pacman -S --needed gcc make ffmpeg postgresql valkey curl ca-certificates libfaketime openssl nginx python nodejs npm"
  elif [[ $(uname -s) == Darwin ]]; then
    say "  the worker's jail needs Linux: on macOS use a Linux container or a virtual machine (Debian or Ubuntu)."
    exit 1
  else
    say "  with your package manager."
  fi
  say "What must be there afterwards: cc, make, curl, ffmpeg, ffprobe and redis-server in PATH; initdb and postgres in PATH or in"
  say "/usr/lib/postgresql/*/bin. Nothing needs to be started: 'make up' runs its own private servers. Then try again."
  exit 1
}

install_packages() {
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    local by_hand="sudo scripts/apt.sh ${missing[*]}"
    have sudo || stop "missing: ${missing[*]}. There is no sudo here, so run this as root: scripts/apt.sh ${missing[*]}"
    if [[ -n ${CI:-} ]]; then
      sudo -n true 2>/dev/null || stop "missing: ${missing[*]}. sudo wants a password here. Run first: $by_hand"
    elif [[ -t 0 && -t 2 ]]; then
      say "missing: ${missing[*]}. They come from your distribution; no service is started."
      read -r -p "setup: install them with 'sudo apt-get'? [Y/n] " answer || answer=n
      [[ ${answer:-y} == [Yy]* ]] || stop "nothing was changed. When you are ready: $by_hand"
    else
      stop "missing: ${missing[*]}. There is no terminal to ask for permission to use sudo. Run: $by_hand"
    fi
    as_root=(sudo)
  fi
  "${as_root[@]}" scripts/apt.sh "${missing[@]}"
}

check_rust
mapfile -t missing < <(missing_packages)
if ((${#missing[@]} > 0)); then
  is_debian || explain_by_hand
  install_packages
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} == 0)) || stop "still missing after the installation: ${missing[*]}. Please install them by hand."
  say "everything needed is here."
fi
[[ $purpose == test ]] || exit 0
have_s3_api || install_s3_api
scripts/clients.sh
