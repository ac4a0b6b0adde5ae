//! The one writer: answers on standard output as tables or JSON, failures and warnings on standard error.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// How answers are written.
pub(crate) struct Output {
    json: bool,
}

/// A table for people: a row of names, then rows of values.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names; without any it is a list of names and values.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut table = Table::default();
        if !names.is_empty() {
            table.rows.push(names.iter().map(|name| (*name).to_owned()).collect());
        }
        table
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// One more name and value.
    pub(crate) fn fact(&mut self, name: &str, value: impl ToString) {
        self.rows.push(vec![format!("{name}:"), value.to_string()]);
    }

    /// The rows of another table below these.
    pub(crate) fn append(&mut self, mut below: Table) {
        self.rows.append(&mut below.rows);
    }

    /// Columns padded to the widest cell; no trailing blanks. Control characters in a cell (a label may hold any) are
    /// shown as escapes, so that a label cannot drive the terminal.
    fn text(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
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
            table().text()
        };
        written(io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
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
        assert_eq!(table.text(), "SLOT  LABEL       X\n0     a\\u{1b}[2J\n10    bb          y\n");
    }
}
