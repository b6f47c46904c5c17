//! YAML to JSON values and back, in as few bytes as a page can carry: what manifests are written in, and no more.

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};
use serde_json::{Map, Number, Value};

/// How deep a manifest may nest.
const DEPTH_MAX: usize = 64;

struct Reader<'text> {
    events: Box<dyn Iterator<Item = Result<Event<'text>, String>> + 'text>,
}

/// Every document of a text.
pub(crate) fn read(text: &str) -> Result<Vec<Value>, String> {
    let events = Parser::new_from_str_with_options(text, options! { emit_comments: false }).map(|event| match event {
        Ok((event, _)) => Ok(event),
        Err(error) => {
            let place = error.marker();
            Err(format!("this is not YAML: line {}, column {}: {}", place.line(), place.col() + 1, error.kind()))
        }
    });
    let mut reader = Reader { events: Box::new(events) };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(documents),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => documents.push(reader.value(event, 0)?),
        }
    }
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<Event<'text>, String> {
        self.events.next().unwrap_or(Ok(Event::StreamEnd))
    }

    fn value(&mut self, event: Event<'text>, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(format!("this nests more than {DEPTH_MAX} deep, which no manifest does"));
        }
        match event {
            Event::Scalar(text, style, _, tag) => Ok(scalar(&text, style, tag.as_deref())),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(items)),
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut fields = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(fields)),
                        Event::Scalar(key, ..) if key != "<<" => key.into_owned(),
                        Event::Scalar(..) => return Err("merge keys (<<) are not previewed: write them out".to_owned()),
                        _ => return Err("a key is no plain text: manifests have none such".to_owned()),
                    };
                    let event = self.next()?;
                    let value = self.value(event, depth + 1)?;
                    if fields.insert(key.clone(), value).is_some() {
                        return Err(format!("key {key:?} stands twice in one map"));
                    }
                }
            }
            Event::Alias(..) | Event::UnresolvedAlias(..) => {
                Err("aliases are not previewed: write the value out".to_owned())
            }
            _ => Err("this is not YAML: it ends in the middle".to_owned()),
        }
    }
}

/// A plain scalar means what YAML's core schema says; a quoted or tagged one is text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    if style != ScalarStyle::Plain || tag.is_some() {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::Number(number.into());
    }
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = numeric.then(|| text.parse().ok().and_then(Number::from_f64)).flatten();
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// A value as block YAML. Maps begin with their `name`, as people write lists: what is added to a container then stands
/// below its first line and does not take its place.
pub(crate) fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write_fields(fields, 0, &mut text),
        Value::Array(items) if !items.is_empty() => write_items(items, 0, &mut text),
        scalar => {
            text.push_str(&written(scalar));
            text.push('\n');
        }
    }
    text
}

fn write_fields(fields: &Map<String, Value>, indent: usize, text: &mut String) {
    let named = fields.iter().filter(|(key, _)| *key == "name");
    let others = fields.iter().filter(|(key, _)| *key != "name");
    for (key, value) in named.chain(others) {
        text.push_str(&" ".repeat(indent));
        text.push_str(&quoted(key));
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                write_fields(fields, indent + 2, text);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_items(items, indent, text);
            }
            scalar => {
                text.push(' ');
                text.push_str(&written(scalar));
                text.push('\n');
            }
        }
    }
}

fn write_items(items: &[Value], indent: usize, text: &mut String) {
    for item in items {
        let mut inner = String::new();
        match item {
            Value::Object(fields) if !fields.is_empty() => write_fields(fields, indent + 2, &mut inner),
            Value::Array(items) if !items.is_empty() => write_items(items, indent + 2, &mut inner),
            scalar => {
                inner = format!("{}{}\n", " ".repeat(indent + 2), written(scalar));
            }
        }
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        text.push_str(inner.get(indent + 2..).unwrap_or_default());
    }
}

/// A scalar, or an empty list or map.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Plain where nothing could be misread, in double quotes (JSON's are YAML's, too) elsewhere.
fn quoted(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let inner = |byte: u8| safe(byte) || b" :@=$()+,".contains(&byte);
    let plain = text.bytes().all(inner)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'/')
        && text.bytes().last().is_some_and(|byte| safe(byte) || byte == b')')
        && !text.contains(": ")
        && scalar(text, ScalarStyle::Plain, None).is_string()
        && !["yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_as_it_was() {
        let value = json!({
            "name": "api", "empty": {}, "none": [], "null": null, "yes": "yes", "number": "5432", "port": 5432, "ratio": 0.5,
            "text": "a: b # c", "lines": "one\ntwo\n", "flag": true, "glob": "*", "list": [["a"], {"b": {"c": [1]}}, "d"],
            "image": "shop/api:1", "space": " x ", "minus": "-", "colon": "x:",
        });
        assert_eq!(read(&write(&value)).unwrap(), [value]);
    }

    #[test]
    fn several_documents_and_json_are_read() {
        assert_eq!(read("a: 1\n---\nb: [x, 'y']\n").unwrap(), [json!({"a": 1}), json!({"b": ["x", "y"]})]);
        assert_eq!(read(r#"{"a": {"b": null}}"#).unwrap(), [json!({"a": {"b": null}})]);
        assert!(read("").unwrap().iter().all(Value::is_null));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_place() {
        assert!(read("a: 1\nb: [\n").unwrap_err().starts_with("this is not YAML: line "));
        assert!(read("a: &x 1\nb: *x\n").unwrap_err().contains("write the value out"));
        assert!(read("a: 1\na: 2\n").is_err());
        assert!(read(&"[".repeat(100)).is_err());
    }

    #[test]
    fn a_name_stands_first() {
        assert_eq!(write(&json!({"items": [{"image": "x", "name": "main"}]})), "items:\n- name: main\n  image: x\n");
    }
}
