#!/bin/sh
# node.sh FOLDER LOGS KUBELET ARGUMENT...: containerd and a kubelet, in a process and a mount namespace of their own.
#
# This is process 1 in there: when it ends, the kernel ends everything below it, containers included, and drops every
# mount. It ends when its standard input closes, which it does when the owner stops it or dies.
set -eu
folder=$1 logs=$2 kubelet=$3
shift 3

# What containerd, runc, CNI and the kubelet write to fixed places stays in this namespace.
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
if [ -d /var/lib/kubelet ]; then
  mount -t tmpfs -o mode=755 tmpfs /var/lib/kubelet
else
  # Making that folder would leave it on the machine; a layer over its parent holds it here only.
  mount -t tmpfs -o mode=755 tmpfs "$folder/layer"
  mkdir "$folder/layer/upper" "$folder/layer/work"
  mount -t overlay -o "lowerdir=/var/lib,upperdir=$folder/layer/upper,workdir=$folder/layer/work" overlay /var/lib
fi

containerd --config "$folder/containerd.toml" > "$logs/containerd.log" 2>&1 < /dev/null &
tries=0
until ctr --address "$folder/containerd.sock" version > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { echo "containerd does not answer:"; tail -n 12 "$logs/containerd.log"; exit 1; }
  sleep 0.1
done
ctr --address "$folder/containerd.sock" --namespace k8s.io images import --snapshotter native "$folder/image.tar"
"$kubelet" "$@" > "$logs/kubelet.log" 2>&1 < /dev/null &
read -r _ || :
