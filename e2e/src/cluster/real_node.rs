//! A node on which containers truly run: its own containerd and kubelet, in namespaces that end with their owner.

use std::ffi::OsString;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::control_plane::{Port, wait_for};
use super::fake_nodes::all_ready;
use super::process::{Process, bound_to_owner, tail};
use super::{Cluster, IMAGE, NODE_LABEL, image};

/// The node's name. The API server reaches the kubelet by it, so the kubelet can listen on loopback alone.
const NAME: &str = "localhost";
/// Where Debian's package and where upstream put the CNI plugins.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// What node.sh hides in the node's own namespace; the cluster's files must lie elsewhere.
const HIDDEN: [&str; 3] = ["/run", "/var/log", "/var/lib"];
/// How to get what may be missing.
const INSTALL: &str = "run e2e/control-plane/install-node.sh as root, or \
    'apt-get install containerd runc containernetworking-plugins busybox-static'";

impl Cluster {
    /// Why a real node cannot run on this machine, and what to do about it; `None` where it can.
    pub fn real_node_obstacle() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("a real node needs root, to make namespaces and mounts: run the tests as root".to_owned());
        }
        if let Some(missing) = ["containerd", "ctr", "runc", "unshare"].into_iter().find(|name| !on_path(name)) {
            return Some(format!("a real node needs {missing}, which is not on the PATH: {INSTALL}"));
        }
        if cni_folder().is_none() {
            return Some(format!(
                "a real node needs the CNI plugin 'loopback', which is in none of {CNI_FOLDERS:?}: {INSTALL}"
            ));
        }
        if !image::is_static(Path::new(image::BUSYBOX)) {
            return Some(format!("a real node needs a static {}: {INSTALL}", image::BUSYBOX));
        }
        let root = env::temp_dir();
        if let Some(hidden) = HIDDEN.into_iter().find(|hidden| root.starts_with(hidden)) {
            return Some(format!(
                "a real node hides {hidden} from its processes, and TMPDIR lies in it: point TMPDIR elsewhere"
            ));
        }
        if own_address().is_none() {
            return Some(
                "a real node needs an IPv4 address other than loopback, and this machine has no route".to_owned(),
            );
        }
        let allowed = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !allowed.is_ok_and(|status| status.success()) {
            return Some(
                "this root may make no namespaces: run the tests with CAP_SYS_ADMIN ('docker run --privileged')"
                    .to_owned(),
            );
        }
        None
    }

    /// Adds a node on which containers of [`IMAGE`] run, label `e2e.scout/node=real`, and waits until it is Ready.
    ///
    /// Pods there need `hostNetwork: true` and `imagePullPolicy: Never`.
    pub async fn join_real_node(&self) -> Result<()> {
        let mut joined = self.real_node.lock().await;
        if *joined {
            return Ok(());
        }
        if let Some(obstacle) = Self::real_node_obstacle() {
            bail!("{obstacle}");
        }
        let folder = self.node_folder();
        for name in ["cni", "pod-logs", "kubelet", "layer"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        self.directory.write("node/containerd.toml", containerd_config(&folder)?)?;
        self.directory.write("node/cni/10-loopback.conflist", CNI_CONFIG)?;
        image::write(&folder.join("image.tar"))?;
        self.start_node(&folder)?;
        *joined = true;
        let nodes: Api<Node> = Api::all(self.client());
        wait_for(self, "the real node to be Ready", || all_ready(&nodes, "real", 1))
            .await
            .with_context(|| format!("the last lines of the kubelet:\n{}", tail(&self.logs_dir().join("kubelet.log"))))
    }

    fn start_node(&self, folder: &Path) -> Result<()> {
        let address = own_address().context("this machine has no IPv4 address but loopback")?;
        let kubeconfig = self.kubeconfig_for(&format!("system:node:{NAME}"), &["system:nodes"])?;
        // A kubelet cannot share a port, so it is free again just before the kubelet takes it.
        let port = Port::reserve()?.number();
        let config = self.directory.write("node/kubelet.json", self.kubelet_config(folder, port)?)?;
        let script = self.directory.write("node/node.sh", include_str!("node.sh"))?;
        let mut command = bound_to_owner(Path::new("unshare"));
        command
            .args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh"])
            .args([script.as_path(), folder, &self.logs_dir(), self.binaries.get("kubelet")])
            .arg(path_argument("--config=", &config))
            .arg(path_argument("--kubeconfig=", &kubeconfig))
            .arg(path_argument("--root-dir=", &folder.join("kubelet")))
            .arg(path_argument("--cert-dir=", &folder.join("kubelet/pki")))
            .arg(format!("--hostname-override={NAME}"))
            .arg(format!("--node-ip={address}"))
            .arg(format!("--node-labels={NODE_LABEL}=real"))
            .current_dir(self.dir())
            .env("HOME", self.directory.home());
        self.processes.add(Process::start_with_lifeline("node", command, &self.logs_dir())?);
        Ok(())
    }

    fn kubelet_config(&self, folder: &Path, port: u16) -> Result<String> {
        let (certificate, key) = self.identities.server("kubelet", &[NAME, "127.0.0.1"])?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": port,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "tlsCertFile": certificate,
            "tlsPrivateKeyFile": key,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": false},
                "x509": {"clientCAFile": self.authority_path()},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", folder.join("containerd.sock").display()),
            "podLogsDir": folder.join("pod-logs"),
            "volumePluginDir": folder.join("kubelet/volume-plugins"),
            "resolvConf": "",
            // The machine's own cgroups are left as they are, whatever their version.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            // A developer's disk that is nearly full is no reason to evict a test's pods.
            "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100,
            "syncFrequency": "2s",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
        });
        Ok(format!("{config:#}\n"))
    }

    fn node_folder(&self) -> PathBuf {
        node_folder(self.dir())
    }

    /// What a container on the real node has written since its latest start, both streams.
    pub async fn container_logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let uid = pods.get(pod).await.with_context(|| format!("looking for pod {namespace}/{pod}"))?.uid();
        let uid = uid.with_context(|| format!("pod {namespace}/{pod} has no uid"))?;
        let folder = self.node_folder().join(format!("pod-logs/{namespace}_{pod}_{uid}/{container}"));
        let starts = fs::read_dir(&folder).with_context(|| format!("reading {}: has it started?", folder.display()))?;
        // One file per start, named by its number.
        let latest = starts
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse::<u32>().ok())
            .max()
            .with_context(|| format!("{namespace}/{pod}/{container} has not started yet"))?;
        let file = folder.join(format!("{latest}.log"));
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.lines().map(plain_line).collect())
    }
}

/// What the container wrote, from a line of "time stream tag text"; a tag P says that its line goes on in the next.
fn plain_line(line: &str) -> String {
    let mut parts = line.splitn(4, ' ').skip(2);
    let tag = parts.next().unwrap_or_default();
    let text = parts.next().unwrap_or_default();
    if tag == "P" { text.to_owned() } else { format!("{text}\n") }
}

fn node_folder(cluster: &Path) -> PathBuf {
    cluster.join("node")
}

fn path_argument(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push(path);
    argument
}

fn on_path(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn cni_folder() -> Option<&'static str> {
    CNI_FOLDERS.into_iter().find(|folder| Path::new(folder).join("loopback").is_file())
}

/// The address from which this machine would reach others: a kubelet refuses to register with a loopback one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a UDP socket sends nothing; the address is one reserved for documentation.
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A pod network of which the node only ever uses the loopback: its pods share the machine's network.
const CNI_CONFIG: &str =
    "{\"cniVersion\": \"1.0.0\", \"name\": \"loopback\", \"plugins\": [{\"type\": \"loopback\"}]}\n";

fn containerd_config(folder: &Path) -> Result<String> {
    let folder = folder.to_str().with_context(|| format!("{} is not UTF-8: set TMPDIR", folder.display()))?;
    let plugins = cni_folder().context("there are no CNI plugins")?;
    // Strings are quoted by Debug, which for paths without control characters is TOML's own way.
    let path = |name: &str| format!("{:?}", format!("{folder}/{name}"));
    Ok(format!(
        r#"version = 2
root = {root}
state = {state}
# It would make /opt/containerd.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
# Inside many containers and virtual machines, no process may lower its score, and every sandbox would fail.
restrict_oom_score_adj = true
disable_tcp_service = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".containerd]
# Plain copies: overlays do not stack everywhere, and the only image is small.
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = {cni}
"#,
        root = path("root"),
        state = path("state"),
        socket = path("containerd.sock"),
        ttrpc = path("containerd.ttrpc"),
        cni = path("cni"),
    ))
}

/// Removes the cgroups of the containers that were running when a cluster's node ended: cgroups outlive their processes.
pub(super) fn remove_cgroups(cluster: &Path) {
    let Ok(tasks) = fs::read_dir(node_folder(cluster).join("state/io.containerd.runtime.v2.task/k8s.io")) else {
        return;
    };
    let containers: Vec<OsString> = tasks.flatten().map(|task| task.file_name()).collect();
    // Version 2 has one tree, version 1 one for every controller. containerd puts each container below its namespace.
    let root = PathBuf::from("/sys/fs/cgroup");
    let controllers = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    for tree in controllers.chain([root.clone()]).map(|tree| tree.join("k8s.io")) {
        for container in &containers {
            remove_group(&tree.join(container));
        }
        // Others' containers may be there too, and then it stays.
        let _ = fs::remove_dir(tree);
    }
}

fn remove_group(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_group(&entry.path());
    }
    // The kernel's own files in it go with it. The last process may need a moment to be gone from it.
    for _ in 0..10 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
