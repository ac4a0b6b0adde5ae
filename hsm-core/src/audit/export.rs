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
    /// One Common Event Format line per record, for collectors that speak it: header of seven fields, then names and values.
    Cef,
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
            "cef" => Ok(Style::Cef),
            "text" => Ok(Style::Text),
            other => Err(format!("{other:?} is not one of ndjson, json, syslog, cef, text")),
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
        Style::Cef => writeln!(out, "{}", cef(line.record)),
        Style::Text => writeln!(out, "{}", sentence(line.record)),
    }
}

/// A record in the Common Event Format. `rt` is in milliseconds since the Unix epoch; severity 3 for what was done, 6 for what was
/// refused.
fn cef(record: &Record) -> String {
    let severity = if record.rv == "CKR_OK" { 3 } else { 6 };
    let version = env!("CARGO_PKG_VERSION");
    let mut line = format!("CEF:0|Craton|craton-hsm|{version}|{0}|{0}|{severity}|", field(&record.op, "|"));
    let client = &record.client;
    let user = client.uid.map(|uid| uid.to_string()).or_else(|| client.subject.clone());
    let pairs = [
        ("rt", Some((record.time / 1_000_000).to_string())),
        ("externalId", Some(record.seq.to_string())),
        ("outcome", Some(record.rv.clone())),
        ("suser", user),
        ("spid", client.pid.map(|pid| pid.to_string())),
        ("cs1Label", record.mechanism.as_ref().map(|_| "mechanism".to_owned())),
        ("cs1", record.mechanism.clone()),
        ("cs2Label", record.object.as_ref().map(|_| "object".to_owned())),
        ("cs2", record.object.as_ref().map(|object| format!("{}:{}", object.class, object.id))),
        ("cs3Label", record.token.as_ref().map(|_| "token".to_owned())),
        ("cs3", record.token.clone()),
    ];
    let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let text: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", field(&value, "="))).collect();
    line.push_str(&text.join(" "));
    line
}

/// Text with the format's own characters escaped.
fn field(text: &str, special: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            _ => {
                if character == '\\' || special.contains(character) {
                    out.push('\\');
                }
                out.push(character);
            }
        }
    }
    out
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
