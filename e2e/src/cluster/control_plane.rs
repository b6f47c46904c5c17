//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as one cluster runs them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::GetParams;
use kube::core::Request;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

use super::process::{Process, bound_to_owner};
use super::{Cluster, Options, audit};

/// Well beyond what a loaded machine needs; two to three seconds are usual.
const PATIENCE: Duration = Duration::from_secs(90);

/// A TCP port of 127.0.0.1 that nobody else is given as long as this lives.
pub(super) struct Port {
    number: u16,
    _socket: TcpSocket,
}

impl Port {
    /// Reserves a free port. The socket never listens; a server that shares ports (`SO_REUSEPORT`) can use it meanwhile.
    pub(super) fn reserve() -> Result<Self> {
        let context = "reserving a TCP port of 127.0.0.1";
        let socket = TcpSocket::new_v4().context(context)?;
        socket.set_reuseport(true).context(context)?;
        socket.bind(([127, 0, 0, 1], 0).into()).context(context)?;
        let number = socket.local_addr().context(context)?.port();
        Ok(Self { number, _socket: socket })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// Starts all four and waits until the cluster answers and its default service account exists.
pub(super) async fn start(cluster: &Cluster, options: &Options, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<()> {
    progress("starting etcd and kube-apiserver");
    run(cluster, "etcd", etcd())?;
    run(cluster, "kube-apiserver", [api_server(cluster)?, options.api_server_arguments.clone()].concat())?;
    wait_for(cluster, "kube-apiserver to be ready", || answers(cluster)).await?;
    progress("starting kube-controller-manager and kube-scheduler");
    let arguments = [controller_manager(cluster)?, options.controller_manager_arguments.clone()].concat();
    run(cluster, "kube-controller-manager", arguments)?;
    run(cluster, "kube-scheduler", scheduler(cluster)?)?;
    wait_for(cluster, "the default service account", || has_service_account(cluster)).await
}

/// Asks again and again until `holds`, a process ends or patience does.
pub(super) async fn wait_for<F>(cluster: &Cluster, what: &str, mut holds: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<(), String>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        let Err(obstacle) = holds().await else { return Ok(()) };
        cluster.processes.check()?;
        if Instant::now() > end {
            bail!(
                "waited {} s for {what}: {obstacle}; the logs are in {} (SCOUT_E2E_KEEP=1 keeps them)",
                PATIENCE.as_secs(),
                cluster.logs_dir().display()
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn answers(cluster: &Cluster) -> Result<(), String> {
    // "/readyz", written as the object of that name at the root: the client has no other way to ask for a bare path.
    let request = Request::new("").get("readyz", &GetParams::default()).map_err(|error| error.to_string())?;
    cluster.client().request_text(request).await.map(|_| ()).map_err(|error| error.to_string())
}

async fn has_service_account(cluster: &Cluster) -> Result<(), String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "default");
    accounts.get("default").await.map(|_| ()).map_err(|error| error.to_string())
}

/// Starts one program of the cluster, in the cluster's directory.
pub(super) fn run(cluster: &Cluster, name: &'static str, arguments: Vec<String>) -> Result<()> {
    let mut command = bound_to_owner(cluster.binaries.get(name));
    command.args(arguments).current_dir(cluster.dir()).env("HOME", cluster.directory.home());
    cluster.processes.add(Process::start(name, command, &cluster.logs_dir())?);
    Ok(())
}

/// etcd listens on sockets in its directory only: no port to collide on, and nobody else can open them.
fn etcd() -> Vec<String> {
    [
        "--name=e2e",
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--listen-client-urls=unix://etcd.sock",
        "--advertise-client-urls=unix://etcd.sock",
        "--listen-peer-urls=unix://etcd-peer.sock",
        "--initial-advertise-peer-urls=unix://etcd-peer.sock",
        "--initial-cluster=e2e=unix://etcd-peer.sock",
        "--log-level=warn",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server(cluster: &Cluster) -> Result<Vec<String>> {
    let identities = &cluster.identities;
    let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let (certificate, key) = identities.server("kube-apiserver", &names)?;
    let (kubelet_certificate, kubelet_key) =
        identities.client("kube-apiserver-to-kubelet", "kube-apiserver", &["system:masters"])?;
    let (accounts_public, accounts_key) = identities.service_accounts()?;
    let ca = cluster.authority_path();
    let policy = cluster.directory.write("audit-policy.yaml", audit::POLICY)?;
    Ok(vec![
        "--etcd-servers=unix://etcd.sock".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // Without it, the server would publish its loopback address as an endpoint, which validation refuses.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={}", cluster.port.number()),
        "--permit-port-sharing=true".to_owned(),
        format!("--tls-cert-file={}", certificate.display()),
        format!("--tls-private-key-file={}", key.display()),
        format!("--client-ca-file={}", ca.display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", accounts_key.display()),
        format!("--service-account-key-file={}", accounts_public.display()),
        format!("--kubelet-certificate-authority={}", ca.display()),
        format!("--kubelet-client-certificate={}", kubelet_certificate.display()),
        format!("--kubelet-client-key={}", kubelet_key.display()),
        // A kubelet's address may not be a loopback one, but its host name may: it listens there alone.
        "--kubelet-preferred-address-types=Hostname".to_owned(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", cluster.audit_log().display()),
        // One file: a rotated log would hide the events before it.
        "--audit-log-maxsize=100000".to_owned(),
        "--v=1".to_owned(),
    ])
}

fn controller_manager(cluster: &Cluster) -> Result<Vec<String>> {
    let (ca, ca_key) = cluster.identities.authority();
    Ok(vec![
        format!("--kubeconfig={}", cluster.kubeconfig_for("system:kube-controller-manager", &[])?.display()),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", cluster.dir().join("pki/service-accounts.key").display()),
        format!("--root-ca-file={}", ca.display()),
        format!("--cluster-signing-cert-file={}", ca.display()),
        format!("--cluster-signing-key-file={}", ca_key.display()),
        "--leader-elect=false".to_owned(),
        // It makes that folder, which by default lies below /usr.
        format!("--flex-volume-plugin-dir={}", cluster.dir().join("volume-plugins").display()),
        // It serves health and metrics only, which nobody asks for here.
        "--secure-port=0".to_owned(),
        // The defaults (20 a second per controller) would make a test of 1,000 workloads measure this client's throttle.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ])
}

fn scheduler(cluster: &Cluster) -> Result<Vec<String>> {
    Ok(vec![
        format!("--kubeconfig={}", cluster.kubeconfig_for("system:kube-scheduler", &[])?.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ])
}
