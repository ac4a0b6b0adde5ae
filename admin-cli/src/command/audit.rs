//! `audit verify`, `audit export` and `audit dump`: the journal as a file, without the daemon.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use hsm_core::audit::export::{self, Style, sentence, timestamp};
use hsm_core::audit::{Finding, Record, Summary, visit_file};
use serde::Serialize;

use crate::cli::Format;
use crate::failure::Failure;
use crate::output::{Output, Table, written};

#[derive(Serialize)]
struct Verified<'a> {
    file: &'a Path,
    verified: bool,
    #[serde(flatten)]
    summary: Summary,
}

/// Verifies every line.
pub(crate) fn verify(journal: &Path, output: &Output) -> Result<(), Failure> {
    let summary = visit_file(journal, |_| Ok(())).map_err(|finding| does_not_verify(journal, &finding))?;
    let answer = Verified { file: journal, verified: true, summary };
    output.answer(&answer, || {
        let summary = &answer.summary;
        let mut table = Table::default();
        table.fact("verified", journal.display());
        table.fact("records", summary.records);
        if summary.records > 0 {
            table.fact("from", timestamp(summary.first_time));
            table.fact("to", timestamp(summary.last_time));
        }
        table.fact("head", hex(&summary.head.hash));
        table.fact("generation", summary.last_generation);
        table.fact("program runs", summary.boots);
        table
    })
}

/// Writes the records to standard output.
pub(crate) fn export(journal: &Path, format: Format, from: u64) -> Result<(), Failure> {
    let style = match format {
        Format::Ndjson => Style::Ndjson,
        Format::Json => Style::Json,
        Format::Syslog => Style::Syslog,
        Format::Text => Style::Text,
    };
    let mut out = Pipe { out: BufWriter::new(io::stdout().lock()), closed: false };
    match export::export(journal, from, style, &mut out) {
        Err(finding) if !out.closed => Err(does_not_verify(journal, &finding)),
        _ => Ok(()),
    }
}

/// Standard output that remembers whether its reader has seen enough (`| head`), which is no failure.
struct Pipe<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        self.closed |= outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        outcome
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.out.write(bytes);
        self.note(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.out.flush();
        self.note(outcome)
    }
}

/// Shows the newest records, after the whole journal was verified.
pub(crate) fn dump(journal: &Path, last: usize, output: &Output) -> Result<(), Failure> {
    let mut newest: VecDeque<Record> = VecDeque::with_capacity(last.min(1024));
    let outcome = visit_file(journal, |line| {
        if last > 0 {
            if newest.len() == last {
                newest.pop_front();
            }
            newest.push_back(line.record.clone());
        }
        Ok(())
    });
    if output.json() {
        output.answer(&newest, Table::default)?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        written(newest.iter().try_for_each(|record| writeln!(out, "{}", sentence(record))).and_then(|()| out.flush()))?;
    }
    outcome.map(drop).map_err(|finding| does_not_verify(journal, &finding))
}

fn does_not_verify(journal: &Path, finding: &Finding) -> Failure {
    match finding.line {
        0 => Failure::new(finding.what.clone()),
        _ => Failure::new(format!("the journal {} does not verify: {finding}", journal.display())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
