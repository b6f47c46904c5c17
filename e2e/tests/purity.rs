//! The cores decide and do nothing else: what they are linked with cannot reach a cluster, a network, a clock or chance.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates that no core may be linked with, however far down: each by its name, or by the beginning of it with a `*`.
const IMPURE: [&str; 22] = [
    "async-std",
    "aws-*",
    "axum",
    "chrono",
    "getrandom",
    "hyper*",
    "jiff",
    "k8s-openapi",
    "kube*",
    "mio",
    "notify",
    "openssl*",
    "rand",
    "reqwest",
    "rustls*",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio*",
    "ureq",
    "wasi*",
];

/// Everything that a package is linked with on any platform, tests left out.
fn dependencies(package: &str) -> BTreeSet<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--edges", "normal", "--target", "all", "--prefix", "none", "--format", "{p}"]);
    let output = command.args(["--package", package]).current_dir(workspace).output().unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect();
    assert!(names.contains(package), "cargo tree printed something else: {tree}");
    names
}

fn is_impure(name: &str) -> bool {
    IMPURE.iter().any(|impure| match impure.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *impure,
    })
}

fn impurities(package: &str) -> BTreeSet<String> {
    dependencies(package).into_iter().filter(|name| is_impure(name)).collect()
}

#[test]
fn the_cores_are_linked_with_nothing_that_could_reach_out() {
    for core in ["policy-core", "host-sync-core"] {
        let impurities = impurities(core);
        assert!(
            impurities.is_empty(),
            "{core} depends on {impurities:?}: find the way with 'cargo tree -p {core} -i <name>'"
        );
    }
}

/// That the check above can fail: the shell around the core is found to have what the core must not have.
#[test]
fn the_shell_is_found_to_reach_out() {
    let impurities = impurities("host-sync");
    for expected in ["hyper", "k8s-openapi", "kube", "kube-client", "tokio"] {
        assert!(impurities.contains(expected), "{expected}: {impurities:?}");
    }
}
