#!/usr/bin/env bash
# Installs what the browser tests need: Debian's chromium, node where there is none, and the npm packages of package-lock.json.
set -euo pipefail
cd "$(dirname "$0")"
packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v npm >/dev/null || packages+=(nodejs npm)
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "a browser test needs ${packages[*]}: as root, 'apt-get install --no-install-recommends ${packages[*]}'" >&2
    exit 1
  fi
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } >&2
fi
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --ignore-scripts >&2
