//! `preview-bind MODULE FOLDER`: writes `policy_preview.js` and `policy_preview_bg.wasm` for a browser. The library under
//! the wasm-bindgen command, at the version that Cargo.lock pins together with the crate: nothing to install.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (module, folder) = arguments.next().zip(arguments.next()).context("usage: preview-bind MODULE FOLDER")?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(&module).out_name("policy_preview").typescript(false).remove_producers_section(true);
    bindgen.web(true)?.generate(&folder).with_context(|| format!("binding {}", module.display()))
}
