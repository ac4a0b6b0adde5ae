//! `audit verify`, `key`, `checkpoint`, `prove`, `check-proof`, `export` and `dump`: the journal as files, without the daemon. `witnessed`:
//! what the running daemon holds of other journals.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use hsm_core::audit::export::{self, Style, sentence, timestamp};
use hsm_core::audit::{
    Finding, Line, Pin, Proof, Record, Signatures, Summary, Trust, closed_files, newest_checkpoint, prove as proof_of,
    read_anchor, verify_witnessed, visit_file, witnessed,
};
use hsm_proto::v1::WitnessedRequest;
use serde::Serialize;

use super::hex;
use crate::cli::{AuditAnchor, AuditCheckProof, AuditOrigin, AuditProve, AuditVerify, AuditWitnessed, Format};
use crate::config::Settings;
use crate::connect::talk;
use crate::failure::Failure;
use crate::output::{Output, Table, written};

#[derive(Serialize)]
struct Verified<'a> {
    file: &'a Path,
    verified: bool,
    witnessed: usize,
    #[serde(flatten)]
    summary: Summary,
}

/// Verifies every line and every signature.
pub(crate) fn verify(journal: &Path, given: &AuditWitnessed, output: &Output) -> Result<(), Failure> {
    let trust = trust(&given.journal)?;
    let keyless = trust.keys.is_empty();
    let mut kept = Vec::new();
    for file in &given.witness {
        let name = file.display();
        let text = std::fs::read(file).map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
        let found = witnessed(&String::from_utf8_lossy(&text));
        if found.is_empty() {
            return Err(Failure::new(format!("{name} holds no checkpoint")));
        }
        kept.extend(found);
    }
    let summary = verify_witnessed(journal, trust, &kept).map_err(|finding| does_not_verify(journal, &finding))?;
    if let (true, Some(seq)) = (keyless, summary.signatures.uncertified_keys.first()) {
        return Err(Failure::new(format!(
            "the journal {} changes its signing key at record {seq} without the signature of the key before; if that is known \
             (a restore on another machine), name the keys you trust with --key",
            journal.display()
        )));
    }
    let answer = Verified { file: journal, verified: true, witnessed: kept.len(), summary };
    output.answer(&answer, || {
        let summary = &answer.summary;
        let mut table = Table::default();
        table.fact("verified", journal.display());
        table.fact("files", closed_files(journal).len() + 1);
        table.fact("records", summary.records);
        if summary.records > 0 {
            table.fact("from", timestamp(summary.first_time));
            table.fact("to", timestamp(summary.last_time));
        }
        if answer.witnessed > 0 {
            table.fact("witnessed checkpoints", answer.witnessed);
        }
        table.fact("head", hex(&summary.head.hash));
        table.fact("generation", summary.last_generation);
        table.fact("program runs", summary.boots);
        match summary.signatures.first_key {
            Some(key) => {
                table.fact("signed up to record", summary.signatures.signed_records);
                let trusted = if keyless { "; not compared with a key of yours (--key)" } else { "; trusted" };
                table.fact("first key", format!("{key}{trusted}"));
                second_signatures(&mut table, &summary.signatures, keyless);
            }
            None => table.fact("signed up to record", "none: the journal carries no signature"),
        }
        table
    })
}

/// What there was of ML-DSA-44 signatures beside those of Ed25519, and what they are worth.
fn second_signatures(table: &mut Table, signatures: &Signatures, keyless: bool) {
    let Signatures { ml_dsa_44_records: covered, ml_dsa_44_trusted: trusted, .. } = *signatures;
    if covered == 0 {
        return table.fact("ML-DSA-44", "none: every checkpoint has the Ed25519 signature alone");
    }
    let worth = match () {
        () if trusted == covered => "; trusted".to_owned(),
        () if trusted > 0 => format!("; trusted up to record {trusted}"),
        () if keyless => "; not compared with a key of yours (--key)".to_owned(),
        () => "; verified by the keys that the journal names, as your --key says nothing of them (128 digits do)"
            .to_owned(),
    };
    table.fact("ML-DSA-44", format!("signed up to record {covered} by it too{worth}"));
    for seq in &signatures.ml_dsa_44_began {
        table.fact("ML-DSA-44 began", format!("record {seq}"));
    }
    for seq in &signatures.ml_dsa_44_ended {
        table.fact("ML-DSA-44 ended", format!("record {seq}, by a step under both signatures"));
    }
}

#[derive(Serialize)]
struct Keys {
    origin: String,
    first: String,
    current: String,
    verifiers: Vec<String>,
}

/// Shows the journal's first and newest key.
pub(crate) fn key(journal: &Path, output: &Output) -> Result<(), Failure> {
    let (signed, by) =
        newest_checkpoint(journal, Trust::default()).map_err(|finding| does_not_verify(journal, &finding))?;
    let summary = visit_file(journal, |_| Ok(())).map_err(|finding| does_not_verify(journal, &finding))?;
    let origin = signed.checkpoint.origin;
    let first = summary.signatures.first_key.unwrap_or(by.pin());
    let verifiers = by.verifier_keys(&origin);
    let answer = Keys { first: first.to_string(), current: by.pin().to_string(), verifiers, origin };
    output.answer(&answer, || {
        let mut table = Table::default();
        table.fact("journal", &answer.origin);
        table.fact("first key", &answer.first);
        table.fact("current key", &answer.current);
        for verifier in &answer.verifiers {
            table.fact("verifier key", verifier);
        }
        table
    })
}

/// Writes the newest checkpoint as a signed note.
pub(crate) fn checkpoint(journal: &Path, given: &AuditVerify) -> Result<(), Failure> {
    let (signed, by) =
        newest_checkpoint(journal, trust(given)?).map_err(|finding| does_not_verify(journal, &finding))?;
    written(io::stdout().lock().write_all(signed.note(&by).as_bytes()))
}

/// Writes the line of an anchor, or says whether the journal holds the record that one names.
pub(crate) fn anchor(journal: &Path, given: &AuditAnchor) -> Result<(), Failure> {
    let wanted = match &given.check {
        Some(file) => {
            let head = read_anchor(file).map_err(|error| Failure::new(error.detail().unwrap_or_default()))?;
            Some(head.ok_or_else(|| Failure::new(format!("{} is missing", file.display())))?)
        }
        None => None,
    };
    let mut found = false;
    let see = |line: &Line<'_>| {
        found |= wanted == Some(line.head);
        Ok(())
    };
    let summary = visit_file(journal, see).map_err(|finding| does_not_verify(journal, &finding))?;
    match wanted {
        None => written(io::stdout().lock().write_all(summary.head.to_line().as_bytes())),
        Some(head) if found => written(writeln!(io::stdout().lock(), "record {} is there", head.seq)),
        Some(head) => Err(Failure::new(format!(
            "the journal {} ends at record {} and does not hold record {} that the anchor names: it was rolled back, or \
             replaced",
            journal.display(),
            summary.head.seq,
            head.seq
        ))),
    }
}

/// Writes the proof of one record as JSON.
pub(crate) fn prove(journal: &Path, given: &AuditProve) -> Result<(), Failure> {
    let proof = proof_of(journal, given.seq, trust(&given.journal)?);
    let proof = proof.map_err(|finding| does_not_verify(journal, &finding))?;
    let text = serde_json::to_string_pretty(&proof).map_err(|error| Failure::new(error.to_string()))?;
    written(writeln!(io::stdout().lock(), "{text}"))
}

#[derive(Serialize)]
struct Held {
    origin: String,
    note: String,
}

/// Writes the checkpoints that the running daemon holds of other journals.
pub(crate) fn held(settings: &Settings, given: &AuditOrigin, output: &Output) -> Result<(), Failure> {
    let origin = given.origin.clone().unwrap_or_default();
    let reply =
        talk(
            settings,
            |mut daemon| async move { Ok(daemon.witnessed(WitnessedRequest { origin }).await?.into_inner()) },
        )?;
    if let (Some(origin), true) = (&given.origin, reply.journals.is_empty()) {
        return Err(Failure::new(format!("the daemon is no witness of {origin}")));
    }
    let all: Vec<Held> = reply.journals.into_iter().map(|held| Held { origin: held.origin, note: held.note }).collect();
    if output.json() {
        return output.answer(&all, Table::default);
    }
    let notes = all.iter().map(|held| match held.note.as_str() {
        "" => format!("{}: nothing yet\n\n", held.origin),
        note => format!("{note}\n"),
    });
    written(io::stdout().lock().write_all(notes.collect::<String>().as_bytes()))
}

#[derive(Serialize)]
struct Proved {
    proved: bool,
    seq: u64,
    record: String,
    /// Whether an ML-DSA-44 signature by a key that was given is among the reasons.
    ml_dsa_44_trusted: bool,
}

/// Checks a proof that somebody else made.
pub(crate) fn check_proof(given: &AuditCheckProof, output: &Output) -> Result<(), Failure> {
    let name = given.proof.display();
    let text = std::fs::read_to_string(&given.proof);
    let text = text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    let proof: Proof = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{name} is no proof as `audit prove` writes it: {error}")))?;
    let keys = keys(&given.key)?;
    proof.check(&keys).map_err(|what| Failure::new(format!("{name} proves nothing: {what}")))?;
    let ml_dsa_44_trusted = proof.pin().is_some_and(|pin| pin.is_of_both() && keys.contains(&pin));
    let answer = Proved { proved: true, seq: proof.seq, record: proof.record, ml_dsa_44_trusted };
    output.answer(&answer, || {
        let mut table = Table::default();
        table.fact("proved", format!("record {}", answer.seq));
        let by = if answer.ml_dsa_44_trusted { "Ed25519 and ML-DSA-44" } else { "Ed25519" };
        table.fact("by your key of", by);
        table.fact("record", &answer.record);
        table
    })
}

fn trust(given: &AuditVerify) -> Result<Trust, Failure> {
    Ok(Trust { keys: keys(&given.key)?, later_start: given.later_start })
}

fn keys(given: &[String]) -> Result<Vec<Pin>, Failure> {
    given.iter().map(|text| text.parse().map_err(|why| Failure::new(format!("--key {why}")))).collect()
}

/// Writes the records to standard output.
pub(crate) fn export(journal: &Path, format: Format, from: u64) -> Result<(), Failure> {
    let style = match format {
        Format::Ndjson => Style::Ndjson,
        Format::Json => Style::Json,
        Format::Syslog => Style::Syslog,
        Format::Cef => Style::Cef,
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
        _ => Failure::new(format!(
            "the journal {} does not verify: {finding}. Change nothing, copy the files away, and see the runbook, \"The journal does not verify\"",
            journal.display()
        )),
    }
}
