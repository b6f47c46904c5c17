#!/usr/bin/env bash
# Builds the preview as WebAssembly with its JavaScript module, and prints the folder that holds both: what host-sync
# takes as --preview-folder. The ways to get the standard library are those of policy/build.sh, and so is its order.
set -euo pipefail
workspace=$(cd "$(dirname "$0")/../.." && pwd)
target=wasm32-unknown-unknown
out="$workspace/target/preview"
# The policy's own target folder: what both are made of is compiled once.
builds="$workspace/target/wasm"
debian_rustc=/usr/bin/rustc
# What the dashboard may weigh, in bytes.
limit=$((400 * 1024))

say() { echo "$*" >&2; }

toolchain_has_target() {
  local folder
  folder=$(rustc --print target-libdir --target $target 2>/dev/null) && compgen -G "$folder/libstd-*.rlib" >/dev/null
}

debian_has_source() {
  [ -x $debian_rustc ] && [ -e "$($debian_rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

install_target() {
  if command -v rustup >/dev/null; then
    say "adding the target $target to the Rust toolchain"
    timeout 120 rustup target add $target >&2 && toolchain_has_target && return
  fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "rustup has no $target here: installing Debian's Rust for it (once per machine)"
    { apt-get update && apt-get install --yes --no-install-recommends rustc-web rust-web-src; } >&2
    debian_has_source && return
  fi
  say "the preview needs Rust's target $target: run 'rustup target add $target', or as root 'apt-get install rustc-web rust-web-src', and try again"
  exit 1
}

cd "$workspace"
mkdir -p "$out"
exec 9> "$out/.lock"
flock --nonblock 9 || {
  say "waiting for another build of the preview"
  flock 9
}
toolchain_has_target || debian_has_source || install_target

# No path of the machine that built it in the module; whatever flags the caller has for native code must not apply.
flags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src= --remap-path-prefix=$workspace= --cfg=sha2_backend_soft=\"compact\""
arguments=(build --locked --package policy-preview --lib --profile policy --target $target --target-dir "$builds")
(
  unset CARGO_ENCODED_RUSTFLAGS
  # A page waits for the download, not for the microseconds.
  export CARGO_PROFILE_POLICY_OPT_LEVEL=z
  if toolchain_has_target; then
    RUSTFLAGS=$flags cargo "${arguments[@]}" >&2
  else
    host=$(rustc -vV | sed -n 's/^host: //p')
    linker="$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld"
    flags="$flags -Clinker=$linker -Clinker-flavor=wasm-ld"
    RUSTC=$debian_rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags cargo "${arguments[@]}" -Zbuild-std=std,panic_abort >&2
  fi
)
module="$builds/$target/policy/policy_preview.wasm"

made_from=$(cat "$module" policy/preview/bind/src/main.rs policy/preview/build.sh Cargo.lock | sha256sum)
if [ ! -e "$out/policy_preview_bg.wasm" ] || [ "$made_from" != "$(cat "$out/made-from" 2>/dev/null)" ]; then
  part=$(mktemp -d "$out/XXXXXX.part")
  trap 'rm -rf "$part"' EXIT
  cargo run --quiet --locked --package preview-bind --target-dir "$builds" -- "$module" "$part" >&2
  if command -v wasm-opt >/dev/null; then
    wasm-opt -Os --enable-bulk-memory --enable-nontrapping-float-to-int "$part/policy_preview_bg.wasm" -o "$part/optimised.wasm" &&
      mv "$part/optimised.wasm" "$part/policy_preview_bg.wasm"
  fi
  size=$(stat -c %s "$part/policy_preview_bg.wasm")
  if [ "$size" -gt $limit ]; then
    say "the preview's module weighs $size bytes, which is over the limit of $limit: find what made it grow"
    exit 1
  fi
  chmod 644 "$part"/policy_preview*
  mv "$part"/policy_preview* "$out/"
  echo "$made_from" > "$out/made-from"
  say "preview: $size bytes"
fi
echo "$out"
