#!/usr/bin/env bash
# Builds the policy as WebAssembly, writes its metadata into it, and prints the path of the annotated module.
#
# Takes the first way that works: the toolchain's own standard library for wasm32-wasip1, the one of Debian's packages,
# the one that rustup downloads, Debian's packages once installed. Nothing is written outside target/ and these.
set -euo pipefail
workspace=$(cd "$(dirname "$0")/.." && pwd)
target=wasm32-wasip1
out="$workspace/target/policy"
# A target folder of its own: no waiting for whoever builds the rest of the workspace.
builds="$workspace/target/wasm"
debian_rustc=/usr/bin/rustc
wasi_libc=/usr/lib/wasm32-wasi

say() { echo "$*" >&2; }

toolchain_has_target() {
  local folder
  folder=$(rustc --print target-libdir --target $target 2>/dev/null) && compgen -G "$folder/libstd-*.rlib" >/dev/null
}

debian_has_target() {
  [ -e $wasi_libc/libc.a ] && [ -x $debian_rustc ] &&
    [ -e "$($debian_rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

install_target() {
  if command -v rustup >/dev/null; then
    say "adding the target $target to the Rust toolchain"
    timeout 120 rustup target add $target >&2 && toolchain_has_target && return
  fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "rustup has no $target here: installing Debian's Rust for it (once per machine)"
    { apt-get update && apt-get install --yes --no-install-recommends rustc-web rust-web-src wasi-libc; } >&2
    debian_has_target && return
  fi
  say "the policy needs Rust's target $target: run 'rustup target add $target', or as root 'apt-get install rustc-web rust-web-src wasi-libc', and try again"
  exit 1
}

# compile: builds the policy and sets `module`.
compile() {
  # No path of the machine that built it in the module; whatever flags the caller has for native code must not apply.
  local flags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src= --remap-path-prefix=$workspace= --cfg=sha2_backend_soft=\"compact\""
  local arguments=(build --package policy --lib --profile policy --target $target --target-dir "$builds")
  unset CARGO_ENCODED_RUSTFLAGS
  if toolchain_has_target; then
    RUSTFLAGS=$flags cargo "${arguments[@]}" >&2
  else
    # Debian's Rust comes with the standard library's source, and links against Debian's libc with the linker of rustup's.
    local host linker
    host=$(rustc -vV | sed -n 's/^host: //p')
    linker="$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld"
    flags="$flags -Clinker=$linker -Clinker-flavor=wasm-ld -Clink-self-contained=no -Lnative=$wasi_libc"
    RUSTC=$debian_rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags cargo "${arguments[@]}" -Zbuild-std=std,panic_abort >&2
  fi
  module="$builds/$target/policy/policy.wasm"
}

# annotate SOURCE RESULT: writes metadata.yml into the module.
annotate() {
  local metadata="$workspace/policy/metadata.yml"
  if command -v kwctl >/dev/null; then
    kwctl annotate "$1" --metadata-path "$metadata" --output-path "$2" >&2
  else
    cargo run --quiet --package policy-annotate --target-dir "$builds" -- \
      "$1" --metadata-path "$metadata" --output-path "$2" >&2
  fi
}

cd "$workspace"
mkdir -p "$out"
# The lock goes with its last holder: a build that outlives a killed script keeps it, so two never write one file.
exec 9> "$out/.lock"
flock --nonblock 9 || {
  say "waiting for another build of the policy"
  flock 9
}
toolchain_has_target || debian_has_target || install_target
compile
annotated="$out/annotated-policy.wasm"
made_from=$(cat "$module" policy/metadata.yml policy/annotate/src/*.rs policy/build.sh | sha256sum)
if [ ! -e "$annotated" ] || [ "$made_from" != "$(cat "$out/made-from" 2>/dev/null)" ]; then
  part=$(mktemp "$out/XXXXXX.part")
  trap 'rm -f "$part"' EXIT
  if command -v wasm-opt >/dev/null; then
    wasm-opt -Os --strip-debug --strip-producers "$module" -o "$builds/optimised.wasm" && module="$builds/optimised.wasm"
  fi
  annotate "$module" "$part"
  chmod 644 "$part"
  # Moved into place at once: being there means being whole.
  mv "$part" "$annotated"
  echo "$made_from" > "$out/made-from"
  say "policy: $(stat -c %s "$annotated") bytes, annotated"
fi
echo "$annotated"
