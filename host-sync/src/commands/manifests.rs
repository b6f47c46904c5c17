//! Files of objects: YAML or JSON, many documents in one, a folder, or standard input.
//!
//! Every document keeps its place in its file, so that an error shows line, column and what stands there.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One object of a file.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The file, for people.
    pub(super) source: String,
    /// The object.
    pub(super) value: Value,
    /// The document's own text, behind as many empty lines as stand before it in the file.
    text: String,
}

impl Document {
    /// A string of the object; empty where there is none.
    pub(super) fn at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The object as a type; an error shows where in the file it is wrong.
    pub(super) fn typed<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.source, &self.text)
    }
}

/// Reads files, folders and standard input (`-`), in order.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            documents.extend(parse_all("standard input", &text)?);
        } else if path.is_dir() {
            for file in files_of(path)? {
                documents.extend(read_file(&file)?);
            }
        } else {
            documents.extend(read_file(path)?);
        }
    }
    Ok(documents)
}

fn read_file(path: &Path) -> Result<Vec<Document>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse_all(&path.display().to_string(), &text)
}

/// The manifests of a folder, not of the folders in it, as `kubectl -f` takes them.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("reading {}", folder.display());
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).with_context(context)?.collect();
    let paths = entries.with_context(context)?.into_iter().map(|entry| entry.path());
    let is_manifest = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        path.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
    };
    let mut files: Vec<PathBuf> = paths.filter(is_manifest).collect();
    files.sort();
    if files.is_empty() {
        bail!("{} holds no .yaml, .yml or .json file", folder.display());
    }
    Ok(files)
}

/// Parses every document of a text. What is empty is left out, and a `List` is taken apart.
pub(super) fn parse_all(source: &str, text: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for text in split(text) {
        let value: Value = parse(source, &text)?;
        match value.get("items").and_then(Value::as_array) {
            Some(items) if value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) => {
                for item in items {
                    let text = serde_json::to_string_pretty(item).context("writing an item of a List")?;
                    documents.push(Document { source: source.to_owned(), value: item.clone(), text });
                }
            }
            _ if value.is_null() => {}
            _ if value.get("kind").is_none_or(|kind| !kind.is_string()) => {
                let line = text.lines().position(|line| !line.trim().is_empty()).unwrap_or_default() + 1;
                bail!("{source}: the document at line {line} has no kind: it is no Kubernetes object");
            }
            _ => documents.push(Document { source: source.to_owned(), value, text }),
        }
    }
    Ok(documents)
}

/// The documents of a text, each behind as many empty lines as stand before it: places are then those of the whole text.
/// A line that begins with `---` always parts documents: not even a block scalar can hold one.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r'])) {
            documents.push("\n".repeat(number));
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says_something = |document: &String| {
        document.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#') && line != "---")
    };
    documents.retain(says_something);
    documents
}

fn parse<T: DeserializeOwned>(source: &str, text: &str) -> Result<T> {
    match serde_saphyr::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) => bail!("{source} cannot be used:\n{}", error.render().trim_end().replace("<input>", source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_empty_documents_are_told_apart() {
        let text = "# a comment\n---\nkind: A\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n";
        let kinds: Vec<String> =
            parse_all("x.yaml", text).unwrap().iter().map(|one| one.at("/kind").to_owned()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn a_mistake_is_shown_with_file_line_column_and_a_caret() {
        let text = "kind: A\n---\nkind: B\nmetadata:\n  name: [api\n---\nkind: C\n";
        let error = parse_all("deploy.yaml", text).unwrap_err().to_string();
        assert!(error.contains("deploy.yaml"), "{error}");
        assert!(error.contains("line 5") || error.contains(":5:") || error.contains("line 6"), "{error}");
        assert!(error.contains('^'), "{error}");
    }

    #[test]
    fn a_misspelt_field_of_a_later_document_is_shown_where_it_stands() {
        let text = "kind: A\n---\napiVersion: scout.commandk.dev/v1alpha1\nkind: SecretStore\nmetadata: {name: files}\nspec:\n  file: {pth: /x}\n";
        let documents = parse_all("store.yaml", text).unwrap();
        let error = documents[1].typed::<crate::api::SecretStore>().unwrap_err().to_string();
        assert!(error.contains("pth") && error.contains("store.yaml"), "{error}");
        assert!(error.contains('7') && error.contains('^'), "{error}");
    }

    #[test]
    fn what_has_no_kind_is_refused_by_its_line() {
        let error = parse_all("x.yaml", "kind: A\n---\nname: b\n").unwrap_err().to_string();
        assert_eq!(error, "x.yaml: the document at line 2 has no kind: it is no Kubernetes object");
    }
}
