//! What the demo prints: headings, elapsed seconds and aligned read-backs; colour only where somebody watches.

use std::fmt::Display;
use std::io::{IsTerminal, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where titles and labels begin: after the elapsed seconds and the number of the step.
const INDENT: usize = 13;
/// How wide the labels of read-backs are.
const LABEL: usize = 34;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// Standard output, and how far the story is.
pub(crate) struct Screen {
    out: Stdout,
    began: Instant,
    colour: bool,
    step: Mutex<Step>,
}

#[derive(Default)]
struct Step {
    number: usize,
    title: String,
    right: usize,
}

impl Screen {
    /// Standard output, in colour on a terminal unless `NO_COLOR` says otherwise (<https://no-color.org>).
    pub(crate) fn new() -> Self {
        let out = std::io::stdout();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = out.is_terminal() && !unwanted && std::env::var_os("TERM").is_some_and(|t| t != "dumb");
        Self { out, began: Instant::now(), colour, step: Mutex::default() }
    }

    /// Whether colour is wanted.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    fn state(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step: its number and title, and what to look for.
    pub(crate) fn step(&self, title: &str, explanation: &str) -> Result<()> {
        let number = {
            let mut step = self.state();
            step.number += 1;
            title.clone_into(&mut step.title);
            step.number
        };
        self.print("")?;
        self.print(&format!("{}  {}", self.elapsed(), self.paint(BOLD, &format!("{number}  {title}"))))?;
        self.text(explanation)?;
        self.print("")
    }

    /// Lines of text, indented as the titles are.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.print(format!("{:INDENT$}{line}", "").trim_end()))
    }

    /// Something that takes time begins now.
    pub(crate) fn progress(&self, what: &str) -> Result<()> {
        self.print(&format!("{}     {what}", self.elapsed()))
    }

    /// A fact that was not read back, such as what was just done.
    pub(crate) fn fact(&self, label: &str, value: &str) -> Result<()> {
        self.row("", DIM, label, value)
    }

    /// Shows what was read back; an error with both sides if it is not what it should be.
    pub(crate) fn check(&self, label: &str, seen: impl Display, expected: impl Display) -> Result<()> {
        let (seen, expected) = (seen.to_string(), expected.to_string());
        if seen == expected {
            self.state().right += 1;
            return self.row("ok", GREEN, label, &seen);
        }
        self.row("WRONG", RED, label, &seen)?;
        self.row("", RED, "expected", &expected)?;
        bail!("{label}: expected '{expected}', seen '{seen}'")
    }

    /// How many read-backs were right so far.
    pub(crate) fn right(&self) -> usize {
        self.state().right
    }

    /// The step that is being told, for an error message.
    pub(crate) fn place(&self) -> String {
        let step = self.state();
        format!("in step {} ({})", step.number, step.title)
    }

    /// A line as it is, at once.
    pub(crate) fn print(&self, line: &str) -> Result<()> {
        let mut out = self.out.lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).context("writing to standard output")
    }

    fn row(&self, mark: &str, colour: &str, label: &str, value: &str) -> Result<()> {
        let mark = self.paint(colour, &format!("{mark:>8}"));
        self.print(format!("{mark}     {label:<LABEL$}  {value}").trim_end())
    }

    fn elapsed(&self) -> String {
        self.paint(DIM, &format!("{:>6} s", seconds(self.began.elapsed())))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Seconds with one decimal.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f32())
}
