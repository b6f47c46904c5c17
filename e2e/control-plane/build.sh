#!/usr/bin/env bash
# Builds the Kubernetes that e2e runs on, and Helm, from the Go modules pinned here, in ../kwok and in ../helm, and prints the folder
# that holds them.
#
#   build.sh [NAME...]    NAME: etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kwok helm; default: all
#
# The result lies outside target/ and is keyed by what it is built from, so each binary is built once per machine and version.
# What KUBEBUILDER_ASSETS and TEST_ASSET_* name, as with envtest, is found by e2e itself; it asks here only for what they lack.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
release=1.37.2
version="-X k8s.io/component-base/version.gitVersion=v$release -X k8s.io/client-go/pkg/version.gitVersion=v$release"
version="$version -X k8s.io/component-base/version.gitMajor=${release%%.*} -X k8s.io/component-base/version.gitMinor=37"

key=$({ cat "$here/go.mod" "$here/../kwok/go.mod" "$here/../helm/go.mod"; echo "$version"; uname -sm; } | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/scout/kubernetes-$release-$key"
[ $# -gt 0 ] || set -- etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kwok helm

# missing NAMES: those that are not built yet; a finished file is moved into place at once, so being there means being whole.
missing() {
  local name
  for name in "$@"; do
    if [ ! -x "$out/$name" ] || { [ "$name" = kwok ] && [ ! -e "$out/kwok-stages.yaml" ]; }; then echo "$name"; fi
  done
}

# build FOLDER PACKAGE NAME: one binary.
build() {
  [ -x "$out/$3" ] && return
  printf 'building %-24s (once per machine)\n' "$3" >&2
  # Workspace and flags of the caller's own Go set-up must not change what is built.
  (cd "$here/../$1" && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $version" -o "$out/$3.part" "$2")
  mv "$out/$3.part" "$out/$3"
}

# kwok's fast stages (how a fake node and its pods become Ready) are data inside its module.
stages() {
  local module stage
  module=$(cd "$here/../kwok" && GOWORK=off GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
  for stage in "$module"/kustomize/stage/{node,pod}/fast/*.yaml; do
    [ "$(basename "$stage")" = kustomization.yaml ] || { echo '---'; cat "$stage"; }
  done > "$out/kwok-stages.yaml.part"
  mv "$out/kwok-stages.yaml.part" "$out/kwok-stages.yaml"
}

if [ -n "$(missing "$@")" ]; then
  command -v go >/dev/null || {
    echo "the test Kubernetes is built from its Go modules, and 'go' is not on the PATH: install Go 1.26 or later (https://go.dev/dl)" >&2
    exit 1
  }
  mkdir -p "$out"
  # The lock goes with its last holder: a 'go build' that outlives a killed script keeps it, so two never write one file.
  exec 9> "$out/.lock"
  flock --nonblock 9 || {
    echo "waiting for another build of the test Kubernetes in $out" >&2
    flock 9
  }
  for name in $(missing "$@"); do
    case $name in
      etcd) build control-plane go.etcd.io/etcd/server/v3 etcd ;;
      kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kubectl)
        build control-plane "k8s.io/kubernetes/cmd/$name" "$name" ;;
      kwok)
        build kwok sigs.k8s.io/kwok/cmd/kwok kwok
        stages ;;
      helm) build helm helm.sh/helm/v4/cmd/helm helm ;;
      *)
        echo "$name is none of the binaries that $0 builds" >&2
        exit 2 ;;
    esac
  done
fi
echo "$out"
