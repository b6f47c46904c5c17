//! The one container image that the real node runs, made here: nothing is pulled.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The image that pods on the real node use, with `imagePullPolicy: Never`: busybox, with a shell and the usual tools.
/// Without a command of its own, a container of it sleeps.
pub const IMAGE: &str = "scout.local/busybox:1";

/// Where the image's only program comes from.
pub(super) const BUSYBOX: &str = "/bin/busybox";

/// Whether a program runs without any library, so that it can stand alone in an image.
pub(super) fn is_static(program: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = fs::read(program) else { return false };
    // The ELF header of a 64-bit program: where its segment headers begin, how long each is, and how many there are.
    let short = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let (Some(offset), Some(size), Some(count)) = (bytes.get(32..36), short(54), short(56)) else { return false };
    let offset = u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]) as usize;
    let segment = |number: usize| {
        let at = offset + number * size;
        bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    bytes.starts_with(b"\x7fELF") && (0..count).all(|number| segment(number).is_some_and(|kind| kind != INTERPRETER))
}

/// Writes the image as an archive that `ctr images import` reads.
pub(super) fn write(path: &Path) -> Result<()> {
    let layer = layer().context("building the layer of the node's image")?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/sleep", "2147483647"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
    })
    .to_string();
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = Builder::new(Vec::new());
    for (name, content) in
        [("manifest.json", manifest.as_bytes()), ("config.json", config.as_bytes()), ("layer.tar", &layer)]
    {
        file(&mut archive, name, 0o644, content).with_context(|| format!("adding {name} to the node's image"))?;
    }
    let archive = archive.into_inner().context("finishing the node's image")?;
    fs::write(path, archive).with_context(|| format!("writing {}", path.display()))
}

fn layer() -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}"))?;
    let mut layer = Builder::new(Vec::new());
    for (name, mode) in
        [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777)]
    {
        entry(&mut layer, name, EntryType::Directory, mode, None)?;
    }
    file(&mut layer, "bin/busybox", 0o755, &busybox)?;
    file(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    for applet in applets()? {
        entry(&mut layer, &format!("bin/{applet}"), EntryType::Symlink, 0o777, Some("busybox"))?;
    }
    layer.into_inner().context("finishing the layer")
}

/// The names under which this busybox acts.
fn applets() -> Result<Vec<String>> {
    let output = Command::new(BUSYBOX).arg("--list").output().with_context(|| format!("running {BUSYBOX} --list"))?;
    if !output.status.success() {
        bail!("{BUSYBOX} --list failed ({}): install busybox-static", output.status);
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).with_context(|| format!("adding {name}"))
}

fn entry(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, mode: u32, link: Option<&str>) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    match link {
        Some(target) => archive.append_link(&mut header, name, target),
        None => archive.append_data(&mut header, name, std::io::empty()),
    }
    .with_context(|| format!("adding {name}"))
}

/// The architecture as container images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
