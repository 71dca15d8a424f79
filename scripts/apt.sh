#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages named as arguments without starting anything: no database cluster is made, no
# service starts now or at the next boot. scripts/setup.sh calls it; it can also be run by hand, as root. Packages that
# were there before, their services and an existing policy-rc.d are left as they are.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

(($# > 0)) || { say "usage: scripts/apt.sh PACKAGE..." && exit 2; }
[[ $EUID -eq 0 ]] || { say "this installs packages: run it as root, for example: sudo $0 $*" && exit 1; }

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
log=$(mktemp /tmp/ffprobe-api-setup.XXXXXX.log)
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.conf
undo=()

# Runs on every way out, so that the machine keeps no trace but the packages.
restore() {
  local step
  for step in "${undo[@]}"; do eval "$step"; done
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
  say "$1 failed. The last lines of $log:"
  tail -n 8 "$log" >&2
  exit 1
}

# apt-get reports "KIND:ITEM:PERCENT:TEXT" on the status descriptor; every fifth of the way is worth a line.
progress() {
  local kind percent last=""
  while IFS=: read -r kind _ percent _; do
    case $kind in
      dlstatus) kind=downloading ;;
      pmstatus) kind=installing ;;
      *) continue ;;
    esac
    percent="$kind, $((${percent%.*} / 20 * 20)) %"
    [[ $percent == "$last" ]] || say "  $percent"
    last=$percent
  done
}

install() {
  local pid failed=0
  exec 3> >(progress)
  pid=$!
  apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Status-Fd=3 "$@" >>"$log" 2>&1 </dev/null ||
    failed=1
  exec 3>&-
  wait "$pid" || true
  ((failed == 0)) || give_up "apt-get install $*"
}

# invoke-rc.d and deb-systemd-invoke ask this file before they start a service; 101 means no.
hold_services() {
  [[ -e $policy || -L $policy ]] && return 0
  undo+=("rm -f $policy")
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

# The server package makes and starts a cluster of its own when it is first configured, unless this file says no. The
# file belongs to postgresql-common, so that one goes first.
hold_cluster() {
  dpkg-query -W -f='${Status}' postgresql-common 2>/dev/null | grep -q ' installed$' || install postgresql-common
  [[ -f $clusters ]] || return 0
  local saved
  saved=$(mktemp)
  cp -p "$clusters" "$saved"
  undo+=("cp -p $saved $clusters; rm -f $saved")
  printf '\ncreate_main_cluster = false\n' >>"$clusters"
}

say "installing $* (from your distribution; usually 1 to 3 minutes, details in $log)"
# A single unreachable source of the administrator's own must not stop us: what really lacks shows at the installation.
apt-get update -q >>"$log" 2>&1 </dev/null || say "apt-get update had trouble ($log); trying with what is known."
hold_services
[[ " $* " == *" postgresql "* ]] && hold_cluster
install "$@"
# The package enables its service for the next boot; nobody asked for that.
if [[ " $* " == *" redis-server "* && -d /run/systemd/system ]]; then
  systemctl disable redis-server.service >>"$log" 2>&1 || give_up "systemctl disable redis-server"
fi
say "installed."
rm -f "$log"
