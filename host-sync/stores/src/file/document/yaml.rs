//! YAML: one flat map of scalars, read from the parser's events.

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::{Entries, Malformed, Place, Plain, refuse_ambiguous, refuse_nested, refuse_null};

const EXPECTED_MAP: &str = "expected one flat map of keys to values (KEY: \"value\")";

/// The events of one text, with their places and without its comments.
struct Events<'text>(Box<dyn Iterator<Item = Result<(Event<'text>, Span), ScanError>> + 'text>);

impl<'text> Events<'text> {
    fn of(text: &'text str) -> Self {
        let options = options! { emit_comments: false };
        Self(Box::new(Parser::new_from_str_with_options(text, options)))
    }

    /// The next event that is part of a document.
    fn next(&mut self) -> Result<(Event<'text>, Place), Malformed> {
        loop {
            match self.0.next() {
                None => return Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
                Some(Ok((Event::StreamStart | Event::DocumentStart(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, place(span.start))),
                Some(Err(error)) => return Err(Malformed::new(place(*error.marker()), words(error.kind()))),
            }
        }
    }
}

/// The parser counts lines from one and columns from zero.
fn place(marker: Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

/// The parser's own words, which are fixed; the two kinds that can quote the text are said without it.
fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::UnexpectedCharacter { .. } => "unexpected character: quote the value that holds it".to_owned(),
        ErrorKind::Custom(_) => "not YAML".to_owned(),
        fixed => fixed.to_string(),
    }
}

pub(super) fn parse(text: &str) -> Result<Entries, Malformed> {
    let mut events = Events::of(text);
    let mut entries = Entries::default();
    match events.next()? {
        (Event::StreamEnd, _) => return Ok(entries),
        // Nothing but a comment or '---', which the parser reports as null.
        (Event::Scalar(text, ScalarStyle::Plain, ..), _) if Plain::of(&text) == Plain::Null => {}
        (Event::MappingStart(..), _) => {
            while let Some((key, place)) = key(&mut events)? {
                let value = value(&mut events, &key)?;
                entries.insert(place, key, value)?;
            }
        }
        (_, place) => return Err(Malformed::new(place, EXPECTED_MAP)),
    }
    loop {
        match events.next()? {
            (Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return Ok(entries),
            (_, place) => {
                return Err(Malformed::new(
                    place,
                    "a second document begins: put each app environment in a file of its own",
                ));
            }
        }
    }
}

/// The next key of the map: its text as it stands, whatever it would mean as a value.
fn key(events: &mut Events<'_>) -> Result<Option<(String, Place)>, Malformed> {
    match events.next()? {
        (Event::MappingEnd, _) => Ok(None),
        (Event::Scalar(text, ScalarStyle::Plain, ..), place) if text == "<<" => {
            Err(Malformed::new(place, "merge keys (<<) are not read: write the keys out"))
        }
        (Event::Scalar(text, ..), place) => Ok(Some((text.into_owned(), place))),
        (_, place) => Err(Malformed::new(place, "a key is no plain text: write it as KEY: \"value\"")),
    }
}

fn value(events: &mut Events<'_>, key: &str) -> Result<String, Malformed> {
    let (event, place) = events.next()?;
    let (text, style, tag) = match event {
        Event::Scalar(text, style, _, tag) => (text, style, tag),
        Event::Alias(..) | Event::UnresolvedAlias(..) => {
            return Err(Malformed::new(place, format!("the value of {key:?} is an alias: write the value out")));
        }
        _ => return Err(refuse_nested(place, key)),
    };
    match tag.as_deref() {
        None if style == ScalarStyle::Plain => match Plain::of(&text) {
            Plain::Text => Ok(text.into_owned()),
            Plain::Null => Err(refuse_null(place, key)),
            Plain::Ambiguous => Err(refuse_ambiguous(place, key)),
        },
        None => Ok(text.into_owned()),
        Some(tag) if is_string(tag) => Ok(text.into_owned()),
        Some(_) => Err(Malformed::new(
            place,
            format!(
                "the value of {key:?} has a tag: quote it without the tag, or give a binary value a file of its own"
            ),
        )),
    }
}

fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (usize, usize, String) {
        let Malformed { place, problem } = parse(text).unwrap_err();
        (place.line, place.column, problem)
    }

    #[test]
    fn every_way_to_write_a_string_gives_its_text() {
        let text = "# the shop's\nA: plain text # not this\nB: \"a\\tb\"\nC: 'it''s'\nD: |\n  l1\n  l2\nE: >-\n  l1\n  l2\nF: ''\nG: !!str 010\nH: 5432\n\"I J\": true\n";
        let entries = parse(text).unwrap();
        let shown: Vec<_> =
            entries.0.iter().map(|(key, value)| (key.as_str(), str::from_utf8(value.expose()).unwrap())).collect();
        let expected = [
            ("A", "plain text"),
            ("B", "a\tb"),
            ("C", "it's"),
            ("D", "l1\nl2\n"),
            ("E", "l1 l2"),
            ("F", ""),
            ("G", "010"),
            ("H", "5432"),
            ("I J", "true"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_file_without_keys_holds_no_keys() {
        for text in ["", "# nothing yet\n", "---\n", "{}", "---\n{}\n...\n"] {
            assert!(parse(text).unwrap().0.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_flat_map_of_strings_is_refused_with_key_and_place() {
        assert_eq!(refusal("A: x\nB:\n").0, 2);
        assert!(refusal("B:\n").2.contains("\"B\" is null"));
        let (line, column, problem) = refusal("A: x\nDB:\n  url: x\n");
        assert_eq!((line, column), (3, 3));
        assert!(problem.contains("\"DB\" holds a map or a list"));
        assert!(refusal("A: [x]").2.contains("one quoted string"));
        assert_eq!(refusal("PORT: 0x1F").1, 7);
        assert!(refusal("A: yes").2.contains("quote it"));
        assert_eq!(refusal("A: x\nA: y\n"), (2, 1, "the key \"A\" is there twice: remove one of them".to_owned()));
        assert!(refusal("A: &x y\nB: *x\n").2.contains("\"B\" is an alias"));
        assert!(refusal("<<: {}\n").2.contains("merge keys"));
        assert!(refusal("A: !!binary aGk=\n").2.contains("a file of its own"));
        assert!(refusal("- A\n").2.contains("flat map"));
        assert!(refusal("just text").2.contains("flat map"));
        assert!(refusal("? [A]\n: x\n").2.contains("no plain text"));
        assert_eq!(
            refusal("A: x\n---\nB: y\n").2,
            "a second document begins: put each app environment in a file of its own"
        );
    }

    #[test]
    fn half_a_file_is_refused_with_its_place() {
        assert_eq!(refusal("A: \"x").2, "unclosed quote");
        assert_eq!(refusal("A: x\nB").0, 2);
        assert_eq!(refusal("{A: x, ").0, 1);
    }
}
