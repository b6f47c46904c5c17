#!/usr/bin/env bash
# Installs what a real node needs besides the binaries that build.sh makes: Debian's and Ubuntu's own packages, only where
# something is missing. e2e starts its own containerd; a system one, if these packages start any, is left alone.
set -euo pipefail

missing=()
command -v containerd >/dev/null && command -v ctr >/dev/null || missing+=(containerd)
command -v runc >/dev/null || missing+=(runc)
[ -x /usr/lib/cni/loopback ] || [ -x /opt/cni/bin/loopback ] || missing+=(containernetworking-plugins)
dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q 'ok installed' || missing+=(busybox-static)
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || {
  echo "a real node needs ${missing[*]}: run 'sudo $0'" >&2
  exit 1
}
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
