//! `doctor`: holds configuration, files, daemon and backups against what operators are advised, and names a remedy for each finding.
//!
//! It changes nothing and needs no PIN. What it looks at is gathered in `facts` (of the machine in `host` and `volume`), what it thinks of it
//! is a table in `rules` (of backups in `shelf`).

mod facts;
mod host;
mod rules;
mod shelf;
#[cfg(test)]
mod tests;
mod volume;

use serde::Serialize;

use self::facts::Facts;
use self::rules::RULES;
use crate::cli::Doctor;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Output, Paint, Table};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// To be mended before long.
    Warning,
    /// To be mended now.
    Critical,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    fn paint(self) -> Paint {
        match self {
            Severity::Note => Paint::Plain,
            Severity::Warning => Paint::Warning,
            Severity::Critical => Paint::Critical,
        }
    }
}

/// What a rule finds.
type Sentences = Vec<(Severity, String)>;

/// One sentence, if it is so.
fn when(is_so: bool, severity: Severity, sentence: impl Into<String>) -> Sentences {
    if is_so { vec![(severity, sentence.into())] } else { Vec::new() }
}

/// What is not as it should be, and what to do.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    rule: &'static str,
    severity: Severity,
    sentence: String,
    remedy: &'static str,
}

#[derive(Serialize)]
struct Diagnosis {
    state: &'static str,
    rules: usize,
    findings: Vec<Finding>,
}

/// Looks at everything. The exit status is the worst finding's: 0 none or notes, 1 warnings, 2 critical.
///
/// # Errors
/// When there is a finding that is more than a note.
pub(crate) fn run(settings: &Settings, asked: &Doctor, output: &Output) -> Result<(), Failure> {
    let facts = Facts::gather(settings, asked);
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule.judge(&facts)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Note);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
    let state = if worst == Severity::Note { "ok" } else { worst.word() };
    let diagnosis = Diagnosis { state, rules: RULES.len(), findings };
    output.answer(&diagnosis, || {
        let mut table = Table::default();
        for Finding { rule, severity, sentence, remedy } in &diagnosis.findings {
            table.painted(severity.word(), severity.paint(), &format!("{sentence} [{rule}]"));
            table.painted("", Paint::Plain, &format!("remedy: {remedy}"));
        }
        table.fact("doctor", format!("{state} ({} rules, {} findings)", diagnosis.rules, diagnosis.findings.len()));
        table
    })?;
    match worst {
        Severity::Note => Ok(()),
        Severity::Warning => Err(Failure::new(format!("warnings: {warnings}"))),
        Severity::Critical => Err(Failure::critical(format!("critical findings: {critical}, warnings: {warnings}"))),
    }
}
