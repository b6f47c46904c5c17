//! Where the programs of the test Kubernetes are.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Every program, with the variable that names it directly where envtest has one.
const PROGRAMS: [(&str, Option<&str>); 8] = [
    ("etcd", Some("TEST_ASSET_ETCD")),
    ("kube-apiserver", Some("TEST_ASSET_KUBE_APISERVER")),
    ("kubectl", Some("TEST_ASSET_KUBECTL")),
    ("kube-controller-manager", None),
    ("kube-scheduler", None),
    ("kubelet", None),
    ("kwok", None),
    ("helm", None),
];

/// The programs of one cluster.
pub(super) struct Binaries {
    paths: BTreeMap<&'static str, PathBuf>,
    stages: PathBuf,
}

impl Binaries {
    /// Finds each program: `TEST_ASSET_*`, else the folder `KUBEBUILDER_ASSETS`, else the cache, which is filled first
    /// where something is missing.
    pub(super) async fn locate(progress: &(dyn Fn(&str) + Send + Sync)) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for (name, variable) in PROGRAMS {
            if let Some(path) = named_by_user(name, variable)? {
                paths.insert(name, path);
            }
        }
        // kwok's stages come with kwok, and no user's folder has them.
        let missing: Vec<&str> =
            PROGRAMS.map(|(name, _)| name).into_iter().filter(|n| !paths.contains_key(n)).collect();
        progress("looking for the test Kubernetes (the first time on a machine, it is built: some ten minutes)");
        let cache = build(&missing).await?;
        paths.extend(missing.into_iter().map(|name| (name, cache.join(name))));
        for path in paths.values() {
            if !path.is_file() {
                bail!("{} is not there: remove {} and start again", path.display(), cache.display());
            }
        }
        Ok(Self { paths, stages: cache.join("kwok-stages.yaml") })
    }

    pub(super) fn get(&self, name: &'static str) -> &Path {
        self.paths.get(name).map_or(Path::new(name), PathBuf::as_path)
    }

    /// What tells kwok how a fake node and its pods become Ready.
    pub(super) fn kwok_stages(&self) -> &Path {
        &self.stages
    }
}

fn named_by_user(name: &str, variable: Option<&str>) -> Result<Option<PathBuf>> {
    if let Some((variable, path)) = variable.and_then(|v| env::var_os(v).map(|path| (v, PathBuf::from(path)))) {
        if !path.is_file() {
            bail!("{variable} names {}, which is no file: correct it or unset it", path.display());
        }
        return absolute(&path).map(Some);
    }
    // kwok is never taken from there, as its stages must be of the same version, and Helm is none of Kubernetes' own programs.
    let own = ["kwok", "helm"].contains(&name);
    let folder = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty() && !own);
    match folder.map(|folder| PathBuf::from(folder).join(name)) {
        Some(path) if path.is_file() => absolute(&path).map(Some),
        _ => Ok(None),
    }
}

/// The children run in the cluster's own directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("making {} absolute", path.display()))
}

/// Has what is missing built, its progress going to this process's standard error, and returns the cache's folder.
async fn build(names: &[&str]) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane/build.sh");
    let mut command = Command::new(&script);
    // Not output(): that would capture the standard error, too, and show no progress.
    let child = command.args(names).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let child = child.with_context(|| format!("starting {}", script.display()))?;
    let output = child.wait_with_output().await.with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("{} failed ({}): what it wrote above says why", script.display(), output.status);
    }
    let folder = String::from_utf8_lossy(&output.stdout).lines().last().map(PathBuf::from);
    folder.with_context(|| format!("{} printed no folder", script.display()))
}
