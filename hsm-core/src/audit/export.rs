//! The journal for people and collectors: what is passed on was verified first, line by line.

use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::chain::{Finding, Line, Summary};
use super::file::visit_file;
use super::record::Record;

/// How records are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The journal's own lines, one JSON object each: an export that verifies like the journal.
    Ndjson,
    /// One JSON array.
    Json,
    /// One syslog message per record, RFC 5424 section 6, facility `log audit` (13).
    Syslog,
    /// One line for people per record.
    Text,
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ndjson" => Ok(Style::Ndjson),
            "json" => Ok(Style::Json),
            "syslog" => Ok(Style::Syslog),
            "text" => Ok(Style::Text),
            other => Err(format!("{other:?} is not one of ndjson, json, syslog, text")),
        }
    }
}

/// Verifies the journal file and writes its records, from sequence number `from` on, to `out`. When the journal stops
/// verifying, the output holds the good records before that place.
///
/// # Errors
///
/// The first [`Finding`], also when `out` cannot be written.
pub fn export(path: &Path, from: u64, style: Style, out: &mut dyn Write) -> Result<Summary, Finding> {
    let mut first = true;
    if style == Style::Json {
        out.write_all(b"[").map_err(unwritable)?;
    }
    let outcome = visit_file(path, |line| {
        if line.record.seq < from {
            return Ok(());
        }
        write_line(line, style, first, out)?;
        first = false;
        Ok(())
    });
    if style == Style::Json {
        out.write_all(b"\n]\n").map_err(unwritable)?;
    }
    out.flush().map_err(unwritable)?;
    outcome
}

fn write_line(line: &Line<'_>, style: Style, first: bool, out: &mut dyn Write) -> io::Result<()> {
    match style {
        Style::Ndjson => {
            out.write_all(line.text)?;
            out.write_all(b"\n")
        }
        Style::Json => {
            out.write_all(if first { b"\n" } else { b",\n" })?;
            out.write_all(line.text)
        }
        Style::Syslog => {
            // Severity: informational for what was done, warning for what was refused (RFC 5424 section 6.2.1).
            let priority = 13 * 8 + if line.record.rv == "CKR_OK" { 6 } else { 4 };
            write!(out, "<{priority}>1 {} - craton-hsm - {} - ", timestamp(line.record.time), line.record.op)?;
            out.write_all(line.text)?;
            out.write_all(b"\n")
        }
        Style::Text => writeln!(out, "{}", sentence(line.record)),
    }
}

/// One record as a line for people: time, who, what, with what, how it ended.
pub fn sentence(record: &Record) -> String {
    let client = &record.client;
    let who = match (&client.uid, &client.subject) {
        (Some(uid), _) => match client.pid {
            Some(pid) => format!("uid={uid} pid={pid}"),
            None => format!("{} uid={uid}", client.kind),
        },
        (None, Some(subject)) => format!("{subject:?}"),
        (None, None) => client.kind.clone(),
    };
    let mut line = format!("{} {} {who} {} {}", record.seq, timestamp(record.time), record.op, record.rv);
    if let Some(mechanism) = &record.mechanism {
        line.push_str(&format!(" {mechanism}"));
    }
    for (name, object) in [("object", &record.object), ("with", &record.with)] {
        if let Some(object) = object {
            line.push_str(&format!(" {name}={}:{}", object.class, object.id));
        }
    }
    for (name, fact) in &record.detail {
        line.push_str(&format!(" {name}={fact}"));
    }
    line
}

/// Nanoseconds since the Unix epoch as RFC 3339 text with microseconds, which RFC 5424 section 6.2.3 allows at most.
pub fn timestamp(unix_nanos: u64) -> String {
    let micros = i128::from(unix_nanos / 1_000) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(micros)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "-".to_owned())
}

fn unwritable(error: io::Error) -> Finding {
    Finding { line: 0, wrong: super::Wrong::Unreadable, what: format!("the export cannot be written: {error}") }
}
