//! Dotenv: lines of `NAME=value`.
//!
//! Our own reader, because the known ones fill `$NAME` in from the environment of the process that reads, which would carry
//! host-sync's own environment into a Secret, and quote the line in their errors. There is no standard; this reads what the common
//! readers (Docker's, Node's, Ruby's, `dotenvy`) agree on and refuses, with the fix, what they read in different ways.

use std::iter::Peekable;
use std::str::Chars;

use super::{Entries, Malformed, Place};

/// The characters of the text, with the place of the next one.
struct Cursor<'text> {
    rest: Peekable<Chars<'text>>,
    place: Place,
}

impl<'text> Cursor<'text> {
    fn of(text: &'text str) -> Self {
        Self { rest: text.chars().peekable(), place: Place { line: 1, column: 1 } }
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(next)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.peek().filter(|next| wanted(*next)) {
            taken.push(next);
            self.next();
        }
        taken
    }

    fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    fn skip_line(&mut self) {
        while !matches!(self.next(), None | Some('\n')) {}
    }

    fn refuse<T>(&self, problem: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed::new(self.place, problem))
    }
}

/// A carriage return is a blank, so that lines may end with one.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

pub(super) fn parse(text: &str) -> Result<Entries, Malformed> {
    let mut cursor = Cursor::of(text);
    let mut entries = Entries::default();
    loop {
        cursor.skip_blanks();
        match cursor.peek() {
            None => return Ok(entries),
            Some('\n' | '#') => cursor.skip_line(),
            Some(_) => {
                let place = cursor.place;
                let key = name(&mut cursor)?;
                let value = value(&mut cursor, &key)?;
                entries.insert(place, key, value)?;
            }
        }
    }
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let mut name = cursor.take_while(is_name);
    cursor.skip_blanks();
    if name == "export" && cursor.peek().is_some_and(is_name) {
        name = cursor.take_while(is_name);
        cursor.skip_blanks();
    }
    if name.is_empty() || cursor.peek() != Some('=') {
        return cursor.refuse("expected NAME=value, the name of letters, digits, '_', '.' and '-'");
    }
    cursor.next();
    Ok(name)
}

fn value(cursor: &mut Cursor<'_>, key: &str) -> Result<String, Malformed> {
    cursor.skip_blanks();
    let value = match cursor.peek() {
        Some('\'') => single_quoted(cursor, key)?,
        Some('"') => double_quoted(cursor, key)?,
        _ => return unquoted(cursor, key),
    };
    cursor.skip_blanks();
    match cursor.peek() {
        None | Some('\n' | '#') => Ok(value),
        Some(_) => cursor.refuse(format!("something follows the closing quote of {key:?}: quote the whole value")),
    }
}

/// Everything between the quotes, as it stands.
fn single_quoted(cursor: &mut Cursor<'_>, key: &str) -> Result<String, Malformed> {
    let start = cursor.place;
    cursor.next();
    let value = cursor.take_while(|next| next != '\'');
    if cursor.next().is_none() { Err(unclosed(start, key)) } else { Ok(value) }
}

fn double_quoted(cursor: &mut Cursor<'_>, key: &str) -> Result<String, Malformed> {
    let start = cursor.place;
    cursor.next();
    let mut value = String::new();
    loop {
        match cursor.peek() {
            None => return Err(unclosed(start, key)),
            Some('"') => {
                cursor.next();
                return Ok(value);
            }
            Some('\\') => value.push(escaped(cursor, key)?),
            Some('$') => value.push(dollar(cursor, key)?),
            Some(other) => {
                value.push(other);
                cursor.next();
            }
        }
    }
}

fn escaped(cursor: &mut Cursor<'_>, key: &str) -> Result<char, Malformed> {
    let start = cursor.place;
    cursor.next();
    Ok(match cursor.next() {
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some(same @ ('\\' | '"' | '$')) => same,
        None => return Err(unclosed(start, key)),
        Some(_) => {
            return Err(Malformed::new(
                start,
                format!(
                    "{key:?} has an unknown escape: only \\n, \\r, \\t, \\\\, \\\" and \\$ are known; use single quotes, or \\\\ for a backslash"
                ),
            ));
        }
    })
}

/// A dollar sign that nobody takes for a variable.
fn dollar(cursor: &mut Cursor<'_>, key: &str) -> Result<char, Malformed> {
    let start = cursor.place;
    cursor.next();
    if cursor.peek().is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '{' | '(' | '$')) {
        return Err(Malformed::new(
            start,
            format!(
                "{key:?} refers to a variable, and none is filled in: put the value in single quotes if the '$' is meant"
            ),
        ));
    }
    Ok('$')
}

/// To the end of the line or to a comment, without the blanks around it.
fn unquoted(cursor: &mut Cursor<'_>, key: &str) -> Result<String, Malformed> {
    let mut value = String::new();
    let mut after_blank = true;
    loop {
        match cursor.peek() {
            None | Some('\n') => break,
            Some('#') if after_blank => break,
            Some('#' | '\'' | '"' | '\\' | '`') => {
                return cursor.refuse(format!(
                    "{key:?} has a quote, '\\' or '#' in an unquoted value, which tools read in different ways: put the value in single quotes"
                ));
            }
            Some('$') => value.push(dollar(cursor, key)?),
            Some(next) => {
                value.push(next);
                cursor.next();
            }
        }
        after_blank = value.ends_with(is_blank);
    }
    value.truncate(value.trim_end_matches(is_blank).len());
    Ok(value)
}

fn unclosed(start: Place, key: &str) -> Malformed {
    Malformed::new(start, format!("the quote that begins the value of {key:?} is never closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let text_of = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        parse(text).unwrap().0.iter().map(|(key, value)| (key.clone(), text_of(value.expose()))).collect()
    }

    fn refusal(text: &str) -> (usize, usize, String) {
        let Malformed { place, problem } = parse(text).unwrap_err();
        (place.line, place.column, problem)
    }

    #[test]
    fn lines_quotes_escapes_and_comments_are_read() {
        let text = "# shop\r\n\r\nA=plain text # comment\r\n export B = 'a $B \\n \"x\"'\nC=\"l1\\nl2 \\\"q\\\" \\$HOME $ 5\" # comment\nD=\nE='l1\nl2'\nexport=x\nF= # empty\nG=a==";
        let expected = [
            ("A", "plain text"),
            ("B", "a $B \\n \"x\""),
            ("C", "l1\nl2 \"q\" $HOME $ 5"),
            ("D", ""),
            ("E", "l1\nl2"),
            ("F", ""),
            ("G", "a=="),
            ("export", "x"),
        ];
        assert_eq!(read(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn nothing_comes_from_the_environment_of_the_process() {
        assert!(std::env::var("PATH").is_ok());
        for text in ["A=$PATH", "A=${PATH}", "A=\"$PATH\"", "A=\"x ${PATH}\"", "A=$(id)", "A=a$$b"] {
            assert!(refusal(text).2.contains("single quotes"), "{text}");
        }
        assert_eq!(read("A='$PATH'"), [("A".to_owned(), "$PATH".to_owned())]);
    }

    #[test]
    fn what_tools_read_in_different_ways_is_refused_with_key_and_place() {
        assert_eq!(refusal("A=x\nB=it's").0, 2);
        assert_eq!(refusal("B=it's").1, 5);
        for text in ["A=a#b", "A=a\\b", "A=`a`", "A='a'b", "A=\"a\\q\""] {
            assert!(refusal(text).2.contains("\"A\""), "{text}");
        }
        assert_eq!(refusal("A=x\n  A=y"), (2, 3, "the key \"A\" is there twice: remove one of them".to_owned()));
        assert!(refusal("A B=x").2.contains("expected NAME=value"));
        assert!(refusal("=x").2.contains("expected NAME=value"));
    }

    #[test]
    fn half_a_file_is_refused_where_the_open_quote_is() {
        assert_eq!(
            refusal("A=x\nB='y\nC=z\n"),
            (2, 3, "the quote that begins the value of \"B\" is never closed".to_owned())
        );
        assert_eq!(refusal("A=x\nB=\"y").0, 2);
        assert_eq!(refusal("A=x\nB").0, 2);
    }
}
