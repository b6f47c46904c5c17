//! The metadata of a Kubewarden policy inside its module.
//!
//! `kwctl annotate` stores `metadata.yml` as JSON in the custom section `io.kubewarden.metadata`; policy-server and kwctl
//! refuse a module without it. This crate writes the same section where kwctl is not installed, and reads it.
//! Source: crate `policy-evaluator` of kubewarden/adm-controller, `policy_metadata.rs`.

use serde_json::Value;
use thiserror::Error;
use wasm_encoder::{CustomSection, Module, RawSection};
use wasmparser::{Parser, Payload};

/// The custom section that holds a policy's metadata.
pub const METADATA_SECTION: &str = "io.kubewarden.metadata";

/// The version of the protocol between host and policy, which `kwctl annotate` asks the module for. It has only ever been this.
const PROTOCOL_VERSION: &str = "v1";

/// Why a module cannot be annotated, or its metadata not be read.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum AnnotateError {
    #[error("the module is not WebAssembly, or cut short")]
    Module(#[from] wasmparser::BinaryReaderError),
    #[error("the custom section {METADATA_SECTION} of the module is not JSON")]
    Section(#[source] serde_json::Error),
    #[error("the metadata is not YAML: {0}")]
    Yaml(String),
    #[error("the metadata has no {field}: {fix}")]
    Missing { field: &'static str, fix: &'static str },
    #[error("the metadata cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

/// What the module's metadata says, as `kwctl inspect` shows it; `None` where the module was never annotated.
pub fn read_metadata(module: &[u8]) -> Result<Option<Value>, AnnotateError> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == METADATA_SECTION
        {
            return serde_json::from_slice(section.data()).map(Some).map_err(AnnotateError::Section);
        }
    }
    Ok(None)
}

/// Reads `metadata.yml` and adds what `kwctl annotate` adds. Checked is only what neither Kubewarden nor a reader could guess.
pub fn parse_metadata(yaml: &str) -> Result<Value, AnnotateError> {
    let mut metadata: Value = serde_saphyr::from_str(yaml).map_err(|error| AnnotateError::Yaml(error.to_string()))?;
    let non_empty_list = metadata.get("rules").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    if !non_empty_list {
        return Err(AnnotateError::Missing { field: "rules", fix: "list the requests that the policy is asked about" });
    }
    if !metadata.get("mutating").is_some_and(Value::is_boolean) {
        return Err(AnnotateError::Missing { field: "mutating", fix: "say whether the policy changes objects" });
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("protocolVersion".to_owned(), Value::from(PROTOCOL_VERSION));
    }
    Ok(metadata)
}

/// The module with `metadata` in its custom section, in place of what it may have held there.
pub fn annotate(module: &[u8], metadata: &Value) -> Result<Vec<u8>, AnnotateError> {
    let json = serde_json::to_vec(metadata).map_err(AnnotateError::Json)?;
    let mut annotated = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if matches!(&payload, Payload::CustomSection(section) if section.name() == METADATA_SECTION) {
            continue;
        }
        if let Some((id, range)) = payload.as_section() {
            annotated.section(&RawSection { id, data: &module[range] });
        }
    }
    annotated.section(&CustomSection { name: METADATA_SECTION.into(), data: json.into() });
    Ok(annotated.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The smallest module: magic number and version.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    const YAML: &str = "rules: [{apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [CREATE]}]\nmutating: true\n";

    #[test]
    fn what_is_annotated_is_read_back_with_the_protocol_version() {
        let metadata = parse_metadata(YAML).unwrap();
        let module = annotate(EMPTY, &metadata).unwrap();
        let read = read_metadata(&module).unwrap().unwrap();
        assert_eq!(read["protocolVersion"], "v1");
        assert_eq!(read["rules"][0]["apiGroups"], json!(["apps"]));
    }

    #[test]
    fn a_module_that_was_never_annotated_has_no_metadata() {
        assert_eq!(read_metadata(EMPTY).unwrap(), None);
    }

    #[test]
    fn annotating_again_replaces_and_leaves_every_other_section_alone() {
        let mut other = Module::new();
        other.section(&CustomSection { name: "other".into(), data: b"kept".into() });
        let once = annotate(&other.finish(), &json!({"mutating": false})).unwrap();
        let twice = annotate(&once, &json!({"mutating": true})).unwrap();
        assert_eq!(read_metadata(&twice).unwrap(), Some(json!({"mutating": true})));
        assert_eq!(once.len() - "false".len(), twice.len() - "true".len());
        assert!(twice.windows(9).any(|bytes| bytes == b"otherkept"));
    }

    #[test]
    fn a_file_that_is_no_module_is_refused() {
        assert!(matches!(read_metadata(b"MZ"), Err(AnnotateError::Module(_))));
        assert!(matches!(annotate(&EMPTY[..6], &json!({})), Err(AnnotateError::Module(_))));
    }

    #[test]
    fn metadata_without_rules_is_refused_with_the_fix() {
        let error = parse_metadata("mutating: true").unwrap_err().to_string();
        assert_eq!(error, "the metadata has no rules: list the requests that the policy is asked about");
        assert!(parse_metadata("rules: [").unwrap_err().to_string().starts_with("the metadata is not YAML"));
    }
}
