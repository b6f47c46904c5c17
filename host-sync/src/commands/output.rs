//! How commands print: colours where a terminal shows them, columns that line up, ages as `kubectl` writes them.
//!
//! Everything is coloured when it is made, and the stream takes the colours out again where they are not wanted: `NO_COLOR`,
//! `TERM=dumb`, a file or a pipe.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::ValueEnum;
use host_sync_core::history::UnixSeconds;
use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, Serializer};

/// All is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// It is on its way, or waits for somebody.
pub(super) const WAITS: Style = AnsiColor::Yellow.on_default();
/// It is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Less important.
pub(super) const DIM: Style = Style::new().dimmed();
/// A heading.
pub(super) const HEADING: Style = Style::new().bold();

/// How what a command has to say is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For people, with everything.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// How a chain or a plan of changes is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// A text that takes the place of the one before: on a terminal the screen is cleared first, elsewhere an empty line parts them.
pub(super) fn page(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\u{1b}[2J\u{1b}[H{text}") } else { format!("{text}\n") }
}

/// Writes to standard error, where nobody waits for it.
pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes a value for programs.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("writing JSON")? + "\n")
}

/// Writes a value for programs and people.
pub(super) fn yaml(value: &impl Serialize) -> Result<String> {
    serde_saphyr::to_string(value).context("writing YAML")
}

/// Text in a colour.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Cells in columns, the first row a heading. A cell's colour takes no room.
pub(super) fn columns(rows: &[Vec<(String, Style)>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, style)) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            let padding = if last { 0 } else { widths[column] - cell.chars().count() + 2 };
            let _ =
                write!(text, "{}{:padding$}", if cell.is_empty() { String::new() } else { paint(*style, cell) }, "");
        }
        text.push('\n');
    }
    text
}

/// How long ago something was, as `kubectl` writes it: in the largest unit that says something.
pub(super) fn ago(at: UnixSeconds, now: UnixSeconds) -> String {
    span(now.saturating_sub(at).max(0))
}

/// A number of seconds in the largest unit that says something.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A moment, in UTC.
pub(super) fn moment(at: UnixSeconds) -> String {
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}

/// Writes a moment for programs as Kubernetes writes one.
#[allow(clippy::ref_option, reason = "serde asks with a reference to the field")]
pub(super) fn as_moment<S: Serializer>(
    at: &Option<UnixSeconds>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    at.map(moment).serialize(serializer)
}

/// A number of things in words.
pub(super) fn counted(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colours() {
        let cell = |text: &str, style| (text.to_owned(), style);
        let table = columns(&[vec![cell("A", HEADING), cell("B", HEADING)], vec![cell("long", GOOD), cell("x", BAD)]]);
        assert_eq!(anstream::adapter::strip_str(&table).to_string(), "A     B\nlong  x\n");
        assert!(table.contains("\u{1b}[32mlong"), "{table:?}");
    }

    #[test]
    fn ages_are_in_the_largest_unit_that_says_something() {
        let ages: Vec<String> =
            [0, 119, 120, 7_199, 7_200, 172_800].iter().map(|seconds| ago(1, 1 + seconds)).collect();
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "2d"]);
        assert_eq!(ago(10, 5), "0s", "a clock that is behind makes nothing young");
    }
}
