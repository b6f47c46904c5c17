//! One file that holds every key of an app environment. A document is read whole or not at all.

mod dotenv;
mod json;
mod yaml;

use std::collections::BTreeMap;
use std::str;

use host_sync_core::secret_bytes::SecretBytes;
use host_sync_core::store::Fetched;

/// The endings of file names that say which format a document has.
pub(super) const EXTENSIONS: [&str; 4] = [".yaml", ".yml", ".json", ".env"];

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
    Dotenv,
}

impl Format {
    /// The format that a file's name announces.
    pub(super) fn of(name: &str) -> Option<Self> {
        let extension = EXTENSIONS.into_iter().find(|extension| name.ends_with(extension))?;
        Some(match extension {
            ".json" => Self::Json,
            ".env" => Self::Dotenv,
            _ => Self::Yaml,
        })
    }
}

/// Where something stands in a text, both counted from one; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// The place behind `before`.
    fn behind(before: &str) -> Self {
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// Why a document is refused. The problem may name a key, and never holds a byte of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) place: Place,
    pub(super) problem: String,
}

impl Malformed {
    fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into() }
    }
}

/// Parses a document.
pub(super) fn parse(format: Format, bytes: &[u8]) -> Result<Fetched, Malformed> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        Malformed::new(
            Place::behind(before),
            "not UTF-8: save the file as UTF-8, or give a binary value a file of its own",
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = match format {
        Format::Yaml => yaml::parse(text)?,
        Format::Json => json::parse(text)?,
        Format::Dotenv => dotenv::parse(text)?,
    };
    Ok(entries.0.into_iter().collect())
}

/// The keys found so far.
#[derive(Debug, Default)]
struct Entries(BTreeMap<String, SecretBytes>);

impl Entries {
    /// Adds a key that is not there yet.
    fn insert(&mut self, place: Place, key: String, value: String) -> Result<(), Malformed> {
        let value = SecretBytes::new(value.into_bytes());
        if self.0.contains_key(&key) {
            return Err(Malformed::new(place, format!("the key {key:?} is there twice: remove one of them")));
        }
        self.0.insert(key, value);
        Ok(())
    }
}

/// What an unquoted scalar is to a reader of YAML or JSON.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    /// A string, or a number or boolean that every reader writes back as it stands here.
    Text,
    Null,
    /// A number or boolean whose text differs between readers: `1.10`, `0x1F`, `yes`.
    Ambiguous,
}

impl Plain {
    /// Judges by YAML 1.2's core schema and, because most tools around Kubernetes still read it, by YAML 1.1.
    fn of(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "" | "~" | "null" => Self::Null,
            "true" | "false" if text == lower => Self::Text,
            "true" | "false" | "yes" | "no" | "on" | "off" => Self::Ambiguous,
            _ if !is_number(&lower) || is_canonical_number(text) => Self::Text,
            _ => Self::Ambiguous,
        }
    }
}

/// Whether some reader takes the text, in lower case, for a number.
fn is_number(lower: &str) -> bool {
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(lower).replace('_', "");
    let radix =
        |prefix, radix| unsigned.strip_prefix(prefix).is_some_and(|digits| u128::from_str_radix(digits, radix).is_ok());
    matches!(unsigned.as_str(), ".inf" | ".nan")
        || radix("0x", 16)
        || radix("0o", 8)
        || radix("0b", 2)
        || (unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
            && unsigned.parse::<f64>().is_ok())
}

fn is_canonical_number(text: &str) -> bool {
    let whole = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    // A float is written without an exponent here, so without a point it may be a number that others write with one.
    whole || (text.contains('.') && text.parse::<f64>().is_ok_and(|number| number.to_string() == text))
}

/// The refusal of a value that is no string.
fn refuse_null(place: Place, key: &str) -> Malformed {
    Malformed::new(place, format!("the key {key:?} is null: give it a value (\"\" for an empty one), or remove it"))
}

/// The refusal of a scalar that readers would write differently.
fn refuse_ambiguous(place: Place, key: &str) -> Malformed {
    Malformed::new(
        place,
        format!("the value of {key:?} is a number or boolean that tools write in different ways: quote it"),
    )
}

/// The refusal of a map or list as a value.
fn refuse_nested(place: Place, key: &str) -> Malformed {
    Malformed::new(
        place,
        format!("the key {key:?} holds a map or a list, and a secret is flat: write its value as one quoted string"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [Format; 3] = [Format::Yaml, Format::Json, Format::Dotenv];

    #[test]
    fn a_scalar_passes_unquoted_only_if_every_tool_writes_it_alike() {
        for text in
            ["postgres://db", "5432", "-1", "0", "1.5", "true", "false", "2024-01-01", "1.2.3", "007-x", "12:30:45"]
        {
            assert_eq!(Plain::of(text), Plain::Text, "{text}");
        }
        for text in [
            "1.10",
            "1.0",
            "0x1F",
            "010",
            "0o17",
            "1_000",
            "1e3",
            "+15551234",
            "-0",
            ".5",
            ".inf",
            ".NaN",
            "yes",
            "Off",
        ] {
            assert_eq!(Plain::of(text), Plain::Ambiguous, "{text}");
        }
        for text in ["True", "FALSE", "123456789012345678901234567890"] {
            assert_eq!(Plain::of(text), Plain::Ambiguous, "{text}");
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(Plain::of(text), Plain::Null, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let refused = parse(Format::Yaml, b"A: ok\nB: \xc3\xa4\xff").unwrap_err();
        assert_eq!(refused.place, Place { line: 2, column: 5 });
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_key() {
        for (format, text) in [(Format::Yaml, "A: b"), (Format::Json, r#"{"A":"b"}"#), (Format::Dotenv, "A=b")] {
            let fetched = parse(format, format!("\u{feff}{text}").as_bytes()).unwrap();
            assert_eq!(fetched.get("A").map(SecretBytes::expose), Some(&b"b"[..]), "{format:?}");
        }
    }

    /// Documents in which every value is made of the word that must not show, in every way of writing and breaking one.
    const DOCUMENTS: [&str; 12] = [
        "A: hunter2\nB: \"hunter2\\n\"\nC: 'hunter2'\nD: |\n  hunter2\n  hunter2\nE: [hunter2]\n",
        "A: \"hunter2\\q\"\n",
        "A: &hunter2 hunter2\nB: *hunter2\n",
        "A: !hunter2 hunter2\n",
        "hunter2",
        "- hunter2",
        "{\"A\": \"hunter2\", \"B\": {\"hunter2\": \"hunter2\"}}",
        "\"hunter2\"",
        "{\"A\": hunter2}",
        "A=hunter2\nB='hunter2'\nC=\"hunter2\\q\"\n",
        "A=\"hunter2\" hunter2\nB=${hunter2}\n",
        "hunter2 hunter2\n",
    ];

    #[test]
    fn no_broken_document_shows_a_byte_of_a_value() {
        let mut refused = 0;
        for document in DOCUMENTS {
            for end in 0..=document.len() {
                for format in FORMATS {
                    if let Err(malformed) = parse(format, &document.as_bytes()[..end]) {
                        refused += 1;
                        assert!(!malformed.problem.contains("unter"), "{format:?} {document:?}: {}", malformed.problem);
                    }
                }
            }
        }
        assert!(refused > 500, "{refused}");
    }

    proptest! {
        #[test]
        fn any_map_of_strings_comes_back_as_it_was(
            map in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,20}", any::<String>(), 0..8)
        ) {
            let json = serde_json::to_string(&map).unwrap();
            let fetched = parse(Format::Json, json.as_bytes()).unwrap();
            prop_assert_eq!(fetched.iter().count(), map.len());
            for (key, value) in &map {
                prop_assert_eq!(fetched.get(key).map(SecretBytes::expose), Some(value.as_bytes()));
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            for format in FORMATS {
                let _ = parse(format, text.as_bytes());
            }
        }

        #[test]
        fn the_three_formats_agree_on_quoted_text(value in "[ -!#-\\[\\]-~]{0,30}") {
            prop_assume!(!value.contains(['\'', '$']));
            for (format, text) in [
                (Format::Yaml, format!("KEY: '{value}'")),
                (Format::Json, format!("{{\"KEY\": \"{value}\"}}")),
                (Format::Dotenv, format!("KEY='{value}'")),
            ] {
                let fetched = parse(format, text.as_bytes()).unwrap();
                prop_assert_eq!(fetched.get("KEY").map(SecretBytes::expose), Some(value.as_bytes()));
            }
        }
    }
}
