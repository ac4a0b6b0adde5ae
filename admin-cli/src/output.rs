//! The one writer: answers on standard output as tables or JSON, failures and warnings on standard error.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::failure::Failure;

/// How answers are written.
pub(crate) struct Output {
    json: bool,
}

/// How a cell looks on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As everything else.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
}

impl Paint {
    fn style(self) -> Style {
        match self {
            Paint::Plain => Style::new(),
            Paint::Good => AnsiColor::Green.on_default(),
            Paint::Warning => AnsiColor::Yellow.on_default(),
            Paint::Critical => AnsiColor::Red.on_default().bold(),
        }
    }
}

struct Cell {
    text: String,
    paint: Paint,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell { text, paint: Paint::Plain }
    }
}

/// A table for people: a row of names, then rows of values.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column names; without any it is a list of names and values.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut table = Table::default();
        if !names.is_empty() {
            table.rows.push(names.iter().map(|name| Cell::from((*name).to_owned())).collect());
        }
        table
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(Cell::from).collect());
    }

    /// One more name and value.
    pub(crate) fn fact(&mut self, name: &str, value: impl ToString) {
        self.rows.push(vec![format!("{name}:").into(), value.to_string().into()]);
    }

    /// One more name and value, the value in a colour.
    pub(crate) fn painted_fact(&mut self, name: &str, paint: Paint, value: impl ToString) {
        self.rows.push(vec![format!("{name}:").into(), Cell { text: value.to_string(), paint }]);
    }

    /// One more row of a word in a colour and what it is about.
    pub(crate) fn painted(&mut self, word: &str, paint: Paint, about: &str) {
        self.rows.push(vec![Cell { text: word.to_owned(), paint }, about.to_owned().into()]);
    }

    /// The rows of another table below these.
    pub(crate) fn append(&mut self, mut below: Table) {
        self.rows.append(&mut below.rows);
    }

    /// Columns padded to the widest cell; no trailing blanks. Control characters in a cell (a label may hold any) are
    /// shown as escapes, so that a label cannot drive the terminal.
    fn text(&self, in_colour: bool) -> String {
        let rows: Vec<Vec<(String, Paint)>> =
            self.rows.iter().map(|row| row.iter().map(|cell| (printable(&cell.text), cell.paint)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            let last = row.iter().rposition(|(cell, _)| !cell.is_empty()).map_or(0, |at| at + 1);
            for (column, ((cell, paint), width)) in row.iter().zip(&widths).enumerate().take(last) {
                let style = if in_colour { paint.style() } else { Style::new() };
                let gap = if column + 1 == last { 0 } else { width - cell.chars().count() + 2 };
                line.push_str(&format!("{style}{cell}{style:#}{:gap$}", ""));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Colours are for terminals whose owner did not refuse them (no-color.org).
fn is_in_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stdout().is_terminal()
}

/// A bar of ten cells that shows how much of something is used, with the figures.
pub(crate) fn bar(used: u64, most: u64) -> String {
    let filled = used.min(most).saturating_mul(10).checked_div(most).unwrap_or(0);
    // What is used at all shows.
    let filled = if used > 0 { filled.max(1) } else { 0 };
    let cells = (0..10).map(|cell| if cell < filled { '#' } else { '.' });
    format!("[{}] {used} of {most}", cells.collect::<String>())
}

fn printable(cell: &str) -> String {
    if cell.chars().any(char::is_control) { cell.escape_debug().to_string() } else { cell.to_owned() }
}

impl Output {
    /// JSON or tables.
    pub(crate) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether JSON was asked for.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Writes an answer.
    ///
    /// # Errors
    ///
    /// When standard output takes no more.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, table: impl FnOnce() -> Table) -> Result<(), Failure> {
        let text = if self.json {
            let json = serde_json::to_string_pretty(value);
            json.map_err(|error| Failure::new(format!("the answer cannot be written: {error}")))? + "\n"
        } else {
            table().text(is_in_colour())
        };
        written(io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
    }

    /// Whether a person reads it: then a table says more than JSON.
    pub(crate) fn has_reader(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// Writes why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let rv = failure.rv().map(|rv| rv.to_string());
        let line = match (self.json, rv) {
            (true, rv) => serde_json::json!({ "error": failure.sentence(), "rv": rv }).to_string(),
            (false, Some(rv)) => format!("craton-hsm-admin: {} ({rv})", failure.sentence()),
            (false, None) => format!("craton-hsm-admin: {}", failure.sentence()),
        };
        complain(&line);
    }
}

/// A warning for the person at the terminal.
pub(crate) fn warn(sentence: &str) {
    complain(&format!("craton-hsm-admin: warning: {sentence}"));
}

/// Writes a new file, durable in content; an existing one is never replaced. `mode` are its permission bits.
///
/// # Errors
///
/// When there is one, or it cannot be written.
pub(crate) fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let done = file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    done.map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))
}

/// Standard error is the last resort: when it is closed there is nobody left to tell.
fn complain(line: &str) {
    writeln!(io::stderr().lock(), "{line}").unwrap_or_default();
}

/// What writing to standard output came to; a reader that has seen enough (`| head`) is no failure.
pub(crate) fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_labels_cannot_drive_the_terminal() {
        let mut table = Table::new(&["SLOT", "LABEL", "X"]);
        table.row(["0".to_owned(), "a\u{1b}[2J".to_owned(), String::new()]);
        table.row(["10".to_owned(), "bb".to_owned(), "y".to_owned()]);
        assert_eq!(table.text(false), "SLOT  LABEL       X\n0     a\\u{1b}[2J\n10    bb          y\n");
    }

    #[test]
    fn colours_shift_no_column() {
        let mut table = Table::default();
        table.painted("critical", Paint::Critical, "one");
        table.painted("note", Paint::Plain, "two");
        assert_eq!(table.text(false), "critical  one\nnote      two\n");
        let coloured = table.text(true);
        assert!(coloured.starts_with("\u{1b}["), "{coloured:?}");
        assert!(coloured.ends_with("note      two\n"), "{coloured:?}");
    }

    #[test]
    fn a_bar_is_never_longer_than_ten_and_shows_the_first_use() {
        let rows = [
            (0, 10, "[..........] 0 of 10"),
            (1, 1000, "[#.........] 1 of 1000"),
            (5, 10, "[#####.....] 5 of 10"),
            (99, 10, "[##########] 99 of 10"),
            (0, 0, "[..........] 0 of 0"),
        ];
        for (used, most, text) in rows {
            assert_eq!(bar(used, most), text);
        }
    }
}
