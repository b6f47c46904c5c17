//! `policy-annotate`: what `kwctl annotate` does, for machines without kwctl.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Writes metadata.yml into a policy module, as kwctl annotate does.
#[derive(Parser)]
struct Arguments {
    /// The module as the compiler made it.
    module: PathBuf,
    /// The policy's metadata, in YAML.
    #[arg(long)]
    metadata_path: PathBuf,
    /// Where the annotated module is written.
    #[arg(long)]
    output_path: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("read {}", path.display()));
    let yaml = String::from_utf8(read(&arguments.metadata_path)?)
        .with_context(|| format!("read {}", arguments.metadata_path.display()))?;
    let metadata = policy_annotate::parse_metadata(&yaml)
        .with_context(|| format!("parse {}", arguments.metadata_path.display()))?;
    let module = policy_annotate::annotate(&read(&arguments.module)?, &metadata)
        .with_context(|| format!("annotate {}", arguments.module.display()))?;
    fs::write(&arguments.output_path, module).with_context(|| format!("write {}", arguments.output_path.display()))
}
