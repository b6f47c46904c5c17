#!/usr/bin/env bash
# Builds the Kubernetes that e2e runs on, from the Go modules pinned in this folder, and prints the folder that holds it.
# The result lies outside target/ and is keyed by what it was built from, so it is built once per machine and version.
# KUBEBUILDER_ASSETS wins where the user has a control plane already, as with envtest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

key=$(cat "$here/go.mod" "$here/../kwok/go.mod" "$here/build.sh" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/scout/kubernetes-1.37.2-$key"
if [ -e "$out/complete" ]; then
  echo "$out"
  exit 0
fi
command -v go >/dev/null || {
  echo "the test Kubernetes is built from its Go modules, and 'go' is not on the PATH: install Go 1.26 or later (https://go.dev/dl), or set KUBEBUILDER_ASSETS" >&2
  exit 1
}

mkdir -p "$out"
version="-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
version="$version -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2"

# build FOLDER PACKAGE NAME: one binary; -mod=mod would touch go.sum, which is pinned here.
build() {
  [ -x "$out/$3" ] && return
  printf 'building %-24s (once per machine)\n' "$3" >&2
  (cd "$here/../$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $version" -o "$out/$3.part" "$2")
  mv "$out/$3.part" "$out/$3"
}

build control-plane go.etcd.io/etcd/server/v3 etcd
for component in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
  build control-plane "k8s.io/kubernetes/cmd/$component" "$component"
done
build kwok sigs.k8s.io/kwok/cmd/kwok kwok
# kwok's fast stages (how a fake node and its pods become Ready) are data inside its module.
stages=$(cd "$here/../kwok" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
for kind in node pod; do
  for stage in "$stages/$kind/fast"/*.yaml; do
    [ "$(basename "$stage")" = kustomization.yaml ] || { echo '---'; cat "$stage"; }
  done
done > "$out/kwok-stages.yaml"
touch "$out/complete"
echo "$out"
