//! What a drill found out: as JSON for machines, as a page for people.

use hsm_core::audit::export::timestamp;
use hsm_core::backup::Manifest;
use serde::Serialize;

use super::sign::KeyResult;

/// One step of the procedure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) step: u32,
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) seconds: f64,
    /// What was found, or why it failed.
    pub(super) finding: String,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) passed: bool,
    /// Nanoseconds since the Unix epoch.
    pub(super) started: u64,
    pub(super) host: String,
    pub(super) uid: u32,
    pub(super) program: &'static str,
    pub(super) archive_file: String,
    pub(super) archive: Option<Manifest>,
    pub(super) steps: Vec<Step>,
    pub(super) keys: Vec<KeyResult>,
    /// From the empty directory to the first verified signature.
    pub(super) rto_seconds: Option<f64>,
    /// How old the snapshot was when the drill began.
    pub(super) rpo_seconds: Option<u64>,
    /// How many changes the running store has made since; nothing when no daemon runs.
    pub(super) changes_since: Option<u64>,
}

impl Report {
    /// The page.
    pub(super) fn page(&self) -> String {
        let mut page = format!(
            "# Restore drill, {}\n\n**{}** on {} by uid {}, craton-hsm-admin {}.\n\nArchive: `{}`\n\n",
            timestamp(self.started),
            if self.passed { "Passed" } else { "FAILED" },
            self.host,
            self.uid,
            self.program,
            self.archive_file,
        );
        if let Some(archive) = &self.archive {
            page.push_str(&format!(
                "- taken {}, generation {}, {} records, SHA-256 `{}`\n",
                timestamp(archive.created),
                archive.generation,
                archive.records,
                archive.sha256
            ));
        }
        if let Some(rto) = self.rto_seconds {
            page.push_str(&format!("- RTO (empty directory to first verified signature): {rto:.1} s\n"));
        }
        if let Some(rpo) = self.rpo_seconds {
            page.push_str(&format!("- RPO (age of the snapshot): {rpo} s\n"));
        }
        if let Some(changes) = self.changes_since {
            page.push_str(&format!("- changes in the running store since the snapshot: {changes}\n"));
        }
        page.push_str("\n| step | | seconds | finding |\n| --- | --- | --- | --- |\n");
        for step in &self.steps {
            let mark = if step.passed { "ok" } else { "FAILED" };
            page.push_str(&format!(
                "| {} {} | {mark} | {:.2} | {} |\n",
                step.step,
                step.name,
                step.seconds,
                cell(&step.finding)
            ));
        }
        if !self.keys.is_empty() {
            page.push_str("\n| key | id | type | mechanism | verified by |\n| --- | --- | --- | --- | --- |\n");
        }
        for key in &self.keys {
            let verified = key.verified_by.map(|who| format!("the {who} token")).or_else(|| key.why_not.clone());
            page.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                cell(&key.label),
                key.id,
                key.key_type,
                key.mechanism.as_deref().unwrap_or("-"),
                cell(&verified.unwrap_or_else(|| "nobody: no public key object with this id".to_owned()))
            ));
        }
        page
    }
}

/// Text that cannot break a table's row.
fn cell(text: &str) -> String {
    text.chars().map(|character| if character.is_control() || character == '|' { ' ' } else { character }).collect()
}
