//! JSON: one object of strings.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{Entries, Malformed, Place, Plain, refuse_ambiguous, refuse_nested, refuse_null};

/// The members of an object as they stand in the text: order, repetitions and the digits of numbers included.
struct Members<'text>(Vec<(&'text RawValue, &'text RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

pub(super) fn parse(text: &str) -> Result<Entries, Malformed> {
    let Members(members) = serde_json::from_str(text)
        .map_err(|error| refuse(Place { line: error.line().max(1), column: error.column().max(1) }, &error))?;
    let mut entries = Entries::default();
    for (key, value) in members {
        let key_place = place(text, key);
        let key: String = serde_json::from_str(key.get()).map_err(|error| refuse(key_place, &error))?;
        let value_place = place(text, value);
        let value = match value.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(value.get()).map_err(|error| refuse(value_place, &error))?,
            Some(b'{' | b'[') => return Err(refuse_nested(value_place, &key)),
            _ => match Plain::of(value.get()) {
                Plain::Text => value.get().to_owned(),
                Plain::Null => return Err(refuse_null(value_place, &key)),
                Plain::Ambiguous => return Err(refuse_ambiguous(value_place, &key)),
            },
        };
        entries.insert(key_place, key, value)?;
    }
    Ok(entries)
}

/// Where a part of the text stands in it: the part borrows from the text, so the distance of their addresses says it.
fn place(text: &str, part: &RawValue) -> Place {
    let offset = part.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
    Place::behind(text.get(..offset).unwrap_or_default())
}

/// Says what is wrong in words that hold nothing of the text: a syntax error's words are fixed, a data error's quote what was found.
fn refuse(place: Place, error: &serde_json::Error) -> Malformed {
    let problem = match error.classify() {
        Category::Syntax | Category::Eof => {
            let words = error.to_string();
            words.rsplit_once(" at line ").map_or(words.clone(), |(problem, _)| problem.to_owned())
        }
        Category::Data | Category::Io => "expected one object: {\"KEY\": \"value\"}".to_owned(),
    };
    Malformed::new(place, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (usize, usize, String) {
        let Malformed { place, problem } = parse(text).unwrap_err();
        (place.line, place.column, problem)
    }

    #[test]
    fn strings_come_unescaped_and_numbers_as_they_stand() {
        let entries = parse("{\"A\": \"l1\\nl2 \\u00e4\", \"B\": 5432, \"C\": true, \"D\": \"\"}").unwrap();
        let shown: Vec<_> = entries.0.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        assert_eq!(shown, [("A", "l1\nl2 ä".as_bytes()), ("B", b"5432"), ("C", b"true"), ("D", b"")]);
    }

    #[test]
    fn what_is_no_flat_map_of_strings_is_refused_with_key_and_place() {
        assert_eq!(refusal("{\"A\": 1,\n \"B\": null}").0, 2);
        assert!(refusal("{\"A\": null}").2.contains("\"A\" is null"));
        assert_eq!(refusal("{\"ä\": {}}").1, 7);
        assert!(refusal("{\"A\": []}").2.contains("quoted string"));
        assert!(refusal("{\"A\": 1.50}").2.contains("quote it"));
        assert_eq!(
            refusal("{\"A\": \"x\",\n  \"A\": \"y\"}"),
            (2, 3, "the key \"A\" is there twice: remove one of them".to_owned())
        );
        assert!(refusal("[]").2.contains("expected one object"));
        assert!(refusal("\"text\"").2.contains("expected one object"));
    }

    #[test]
    fn half_a_file_is_refused_at_its_end() {
        let (line, _, problem) = refusal("{\"A\": \"x\",\n\"B\": \"y");
        assert_eq!((line, problem.as_str()), (2, "EOF while parsing a string"));
        assert!(parse("").is_err());
        assert_eq!(refusal("{\"A\": \"x\"} {").2, "trailing characters");
    }
}
