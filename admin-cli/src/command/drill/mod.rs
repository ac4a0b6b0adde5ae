//! `drill`: the restore that nobody should try for the first time after a fire. Nine steps: the archive is at hand, verifies, an
//! empty place is made, the store is restored and opened by a daemon, its keys sign and the signatures verify, the journal goes on
//! from where the archive was taken, times are measured, the copy is destroyed, the report is written.

mod report;
mod scratch;
mod sign;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hsm_core::audit::head_path;
use hsm_core::backup::{Credential, Manifest, Replace, Restore as Request, TokenLine, extract, restore, verify};
use hsm_core::{Clock, SecretBytes, SystemClock};
use hsm_proto::v1::{AdminResetPinRequest, ListTokensRequest, StatusRequest, TokenName};

use super::archives::{FILES, beside, files_beside};
use crate::cli::{Drill, Which};
use crate::config::Settings;
use crate::connect::{converse, talk, talk_sealed};
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;
use report::{Report, Step};
use scratch::Scratch;
use sign::{KeyResult, Signed, Talk};

/// Runs the drill; the report is written whatever comes of it.
pub(crate) fn run(settings: &Settings, given: &Drill, output: &Output) -> Result<(), Failure> {
    let unlocking = Unlocking::of(given)?;
    let mut drill = Rehearsal::begin(settings, given);
    let outcome = drill.run(&unlocking);
    drill.report.passed = outcome.is_ok() && drill.report.steps.iter().all(|step| step.passed);
    if let Some(path) = &given.report {
        save(&drill.report, path)?;
        if let Some(label) = &given.sign_with {
            sign_report(settings, given, &drill.report, path, label)?;
        }
    }
    output.answer(&drill.report, || table(&drill.report))?;
    match (outcome, drill.report.passed) {
        (Err(failure), _) => Err(Failure::new(format!("the drill failed: {}", failure.sentence()))),
        (Ok(()), false) => Err(Failure::new("the drill failed: see the steps that did not pass")),
        (Ok(()), true) => Ok(()),
    }
}

/// What opens the archive, and what its token.
struct Unlocking {
    archive: Credential,
    token: Holder,
}

/// Whose PIN is known.
enum Holder {
    /// The SO's, who gives the copy a user PIN that nobody sees.
    So(SecretBytes),
    /// The user's.
    User(SecretBytes),
}

impl Unlocking {
    fn of(given: &Drill) -> Result<Self, Failure> {
        let archive = super::credential(&given.opening)?;
        let token = match (&archive, &given.so_pin, &given.user_pin) {
            (Credential::SoPin(pin), _, _) => Holder::So(pin.duplicate()),
            (_, Some(pin), _) => Holder::So(prompt::pin("--so-pin", "SO PIN", Some(pin))?),
            (_, None, Some(pin)) => Holder::User(prompt::pin("--user-pin", "user PIN", Some(pin))?),
            (_, None, None) => {
                let sentence =
                    "what opens the archive is no PIN of its token: give --so-pin or --user-pin too, or no key signs";
                return Err(Failure::new(sentence));
            }
        };
        Ok(Unlocking { archive, token })
    }
}

struct Rehearsal<'a> {
    settings: &'a Settings,
    given: &'a Drill,
    report: Report,
    running: bool,
}

impl<'a> Rehearsal<'a> {
    fn begin(settings: &'a Settings, given: &'a Drill) -> Self {
        let report = Report {
            passed: false,
            started: SystemClock.now_unix_nanos(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            uid: rustix::process::geteuid().as_raw(),
            program: env!("CARGO_PKG_VERSION"),
            archive_file: given.input.display().to_string(),
            archive: None,
            steps: Vec::new(),
            keys: Vec::new(),
            rto_seconds: None,
            rpo_seconds: None,
            changes_since: None,
        };
        Rehearsal { settings, given, report, running: false }
    }

    /// Does a step and notes what came of it.
    fn step<T>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Self) -> Result<(T, String), Failure>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let outcome = body(self);
        let number = u32::try_from(self.report.steps.len() + 1).unwrap_or(u32::MAX);
        let (passed, finding) = match &outcome {
            Ok((_, finding)) => (true, finding.clone()),
            Err(failure) => (false, failure.sentence().to_owned()),
        };
        let seconds = begun.elapsed().as_secs_f64();
        self.report.steps.push(Step { step: number, name, passed, seconds, finding });
        outcome.map(|(value, _)| value)
    }

    fn run(&mut self, unlocking: &Unlocking) -> Result<(), Failure> {
        let program = self.step("prepare", |drill| drill.prepare())?;
        let archive = self.step("verify the archive without restoring it", |drill| drill.verify(&unlocking.archive))?;
        let token = token_of(&archive, &self.given.which)?;
        let begun = Instant::now();
        let mut scratch = self.step("make an empty place", |drill| drill.empty_place(&archive))?;
        let outcome = self.in_scratch(&mut scratch, &token, &program, unlocking, begun);
        let journal = self.step("find the archive's last record in the journal", |drill| {
            drill.journal(&archive, &scratch, &unlocking.archive)
        });
        let destroyed = self.step("destroy the copy", |_| {
            scratch.destroy().map(|()| ((), "daemon ended, files overwritten and removed".to_owned()))
        });
        outcome.and(journal).and(destroyed)
    }

    fn in_scratch(
        &mut self,
        scratch: &mut Scratch,
        token: &TokenLine,
        program: &Path,
        unlocking: &Unlocking,
        begun: Instant,
    ) -> Result<(), Failure> {
        self.step("restore", |drill| drill.restore(scratch, &unlocking.archive))?;
        self.step("start a daemon on it", |_| {
            scratch.start(program).map(|()| ((), "self-test passed, the store opened".to_owned()))
        })?;
        let keys =
            self.step("sign with the restored keys", |drill| drill.sign(scratch, token, &unlocking.token, begun))?;
        self.report.keys = keys.into_iter().map(|signed| signed.result).collect();
        self.step("count", |drill| Ok(((), judged(&drill.report.keys, token.objects)?)))
    }

    /// The archive and the programs are there; notes how far behind the archive is.
    fn prepare(&mut self) -> Result<(PathBuf, String), Failure> {
        let program = match &self.given.daemon {
            Some(program) => program.clone(),
            None => beside_this("craton-hsm-daemon")?,
        };
        if !program.is_file() {
            return Err(Failure::new(format!(
                "{} is not there; name the daemon's program with --daemon",
                program.display()
            )));
        }
        let bytes = self
            .given
            .input
            .metadata()
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", self.given.input.display())))?;
        Ok((program, format!("{} bytes at hand", bytes.len())))
    }

    fn verify(&mut self, credential: &Credential) -> Result<(Manifest, String), Failure> {
        let archive = verify(&self.given.input, credential)?;
        let beside = files_beside(&self.given.input, &archive, Some(credential))?;
        self.report.rpo_seconds = Some(self.report.started.saturating_sub(archive.created) / 1_000_000_000);
        let running =
            talk(self.settings, |mut daemon| async move { Ok(daemon.status(StatusRequest {}).await?.into_inner()) });
        if let Ok(status) = running {
            self.running = true;
            self.report.changes_since = status.store_generation.checked_sub(archive.generation);
        }
        self.report.archive = Some(archive.clone());
        let mut finding =
            format!("{} records of generation {}, every one authentic", archive.records, archive.generation);
        if let Some(files) = beside {
            finding.push_str(&format!(", and {files} files beside it"));
        }
        Ok((archive, finding))
    }

    fn empty_place(&mut self, archive: &Manifest) -> Result<(Scratch, String), Failure> {
        let base = self.given.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let slots = archive.tokens.iter().map(|token| token.slot + 1).max().unwrap_or(1);
        Ok((Scratch::create(&base, slots)?, format!("below {}", base.display())))
    }

    fn restore(&mut self, scratch: &Scratch, credential: &Credential) -> Result<((), String), Failure> {
        let clock = Arc::new(SystemClock);
        let request = Request {
            input: &self.given.input,
            credential,
            config: &scratch.settings.core,
            uid: self.report.uid,
            clock,
            replace: Replace::Never,
        };
        let restored = restore(&request)?;
        Ok(((), format!("{} records at generation {}", restored.records, restored.generation)))
    }

    /// The SO sets a PIN that nobody knows, or the user's is known; the copy signs, and the running token's public keys verify; without a running daemon, the
    /// copy's own.
    fn sign(
        &mut self,
        scratch: &Scratch,
        token: &TokenLine,
        holder: &Holder,
        begun: Instant,
    ) -> Result<(Vec<Signed>, String), Failure> {
        let pin = match holder {
            Holder::So(so_pin) if so_resets(scratch, token)? => reset(scratch, token, so_pin)?,
            Holder::So(_) => {
                let why = "the SO of this token does not hold its master key: give --user-pin too, or no key signs";
                let place = self.given.user_pin.as_deref().ok_or_else(|| Failure::new(why))?;
                prompt::pin("--user-pin", "user PIN", Some(place))?
            }
            Holder::User(pin) => pin.duplicate(),
        };
        let (restored, running) = (&scratch.settings.socket, self.running.then_some(&self.settings.socket));
        let (signed, first) = converse(async {
            let mut copy = Talk::open(restored, &token.serial).await?;
            copy.login(pin.expose()).await?;
            let mut signed = copy.sign_with_all().await?;
            let mut original = match running {
                Some(socket) => Talk::open(socket, &token.serial).await.ok(),
                None => None,
            };
            let mut first = None;
            for one in &mut signed {
                if let Some(original) = &mut original {
                    original.verify(one, "running").await?;
                }
                copy.verify(one, "restored").await?;
                if one.result.verified_by.is_some() && first.is_none() {
                    first = Some(begun.elapsed().as_secs_f64());
                }
            }
            Ok((signed, first))
        })?;
        self.report.rto_seconds = first;
        let finding = format!("{} private keys that sign", signed.len());
        Ok((signed, finding))
    }

    /// The journal of this configuration must still hold the record that the archive names, and so must the one in the bundle.
    fn journal(
        &mut self,
        archive: &Manifest,
        scratch: &Scratch,
        credential: &Credential,
    ) -> Result<((), String), Failure> {
        let bundled = bundled_journal(&self.given.input, scratch, credential)?;
        let mut findings = Vec::new();
        if let Some(journal) = &bundled {
            // It grew while it was read: what follows the record may be cut off, and the bundle's own check holds for it.
            let (found, _) = head_of(journal, archive.audit_seq);
            findings.push(goes_on("the bundle's journal", archive, found)?);
        }
        let path = &self.settings.core.audit.log_path;
        if path.exists() {
            let (found, visited) = head_of(path, archive.audit_seq);
            visited.map_err(|finding| {
                Failure::new(format!("the journal {} does not verify: {finding}", path.display()))
            })?;
            findings.push(goes_on("the journal", archive, found)?);
        } else {
            findings.push(format!("{} is not on this machine", path.display()));
        }
        Ok(((), findings.join("; ")))
    }
}

/// Whether the SO of the copy holds the master key, and so may set another user PIN.
fn so_resets(scratch: &Scratch, token: &TokenLine) -> Result<bool, Failure> {
    let reply = talk(&scratch.settings, |mut daemon| async move {
        Ok(daemon.list_tokens(ListTokensRequest {}).await?.into_inner())
    })?;
    Ok(reply.tokens.iter().any(|seen| seen.slot == token.slot && seen.so_holds_master_key))
}

/// Has the SO of the copy set a random user PIN.
fn reset(scratch: &Scratch, token: &TokenLine, so_pin: &SecretBytes) -> Result<SecretBytes, Failure> {
    let pin = random_pin()?;
    let name = Some(TokenName { label: String::new(), slot: Some(token.slot) });
    let reset = AdminResetPinRequest {
        token: name,
        so_pin: so_pin.expose().to_vec(),
        new_user_pin: pin.expose().to_vec(),
        sealed: None,
    };
    talk_sealed(&scratch.settings, reset, |mut daemon, sealed| async move {
        Ok(daemon.reset_pin(sealed).await.map(drop)?)
    })?;
    Ok(pin)
}

/// The journal among the files beside the archive, extracted into the scratch directory.
fn bundled_journal(input: &Path, scratch: &Scratch, credential: &Credential) -> Result<Option<PathBuf>, Failure> {
    let files = beside(input, FILES);
    if !files.exists() {
        return Ok(None);
    }
    let directory = scratch.place("files");
    let lines = extract(&files, credential, &directory)?;
    let names = lines.iter().filter(|line| line.name.starts_with("journal/")).map(|line| directory.join(&line.name));
    // The newest of its files is the one whose head is noted beside it.
    Ok(names.into_iter().find(|path| head_path(path).exists()))
}

/// The hash of a journal's record, as far as the journal verifies; and how far that is.
fn head_of(path: &Path, seq: u64) -> (Option<[u8; 32]>, Result<(), String>) {
    let mut found = None;
    let visited = hsm_core::audit::visit_file(path, |line| {
        if line.head.seq == seq {
            found = Some(line.head.hash);
        }
        Ok(())
    });
    (found, visited.map(drop).map_err(|finding| finding.to_string()))
}

/// Whether the record is the one that the archive names.
fn goes_on(whose: &str, archive: &Manifest, found: Option<[u8; 32]>) -> Result<String, Failure> {
    let number = archive.audit_seq;
    match found.map(|hash| super::hex(&hash)) {
        Some(head) if head == archive.audit_head => {
            Ok(format!("record {number} of {whose} is the one that the archive names; it goes on from there"))
        }
        Some(_) => Err(Failure::new(format!("record {number} of {whose} is not the one that the archive names"))),
        None => Err(Failure::new(format!("{whose} has no record {number}, which the archive names"))),
    }
}

/// Whether the signatures show that the token came back. No key may be another one, and of the keys that sign at least one must have been
/// verified; a token without such keys was opened at least.
fn judged(keys: &[KeyResult], objects: u64) -> Result<String, Failure> {
    if let Some(bad) = keys.iter().find(|key| key.refused) {
        return Err(Failure::new(format!("key {:?} (id {}) is not the same key", bad.label, bad.id)));
    }
    let verified = keys.iter().filter(|key| key.verified_by.is_some()).count();
    if verified == 0 && !keys.is_empty() {
        return Err(Failure::new("no signature was made and verified: the report says why, key by key"));
    }
    Ok(format!("{verified} of {} signatures verified; the token had {objects} objects", keys.len()))
}

/// Which token's keys sign: the named one, else the only initialised one.
fn token_of(archive: &Manifest, which: &Which) -> Result<TokenLine, Failure> {
    let fits = |token: &&TokenLine| match (&which.token, which.slot) {
        (Some(label), _) => token.label == *label,
        (None, Some(slot)) => token.slot == slot,
        (None, None) => true,
    };
    let mut found = archive.tokens.iter().filter(|token| token.initialized).filter(fits);
    match (found.next(), found.next()) {
        (Some(token), None) => Ok(token.clone()),
        (None, _) => Err(Failure::new("the archive has no such initialised token")),
        (Some(_), Some(_)) => Err(Failure::new("the archive has several tokens: name one with --token or --slot")),
    }
}

fn beside_this(name: &str) -> Result<PathBuf, Failure> {
    let this =
        std::env::current_exe().map_err(|error| Failure::new(format!("this program's place is unknown: {error}")))?;
    Ok(this.with_file_name(name))
}

/// 32 hexadecimal digits that nobody sees.
fn random_pin() -> Result<SecretBytes, Failure> {
    let mut digits = SecretBytes::zeroed(32);
    let filled = rustix::rand::getrandom(digits.expose_mut(), rustix::rand::GetRandomFlags::empty());
    if filled != Ok(32) {
        return Err(Failure::new("no random bytes from the system"));
    }
    for digit in digits.expose_mut() {
        *digit = b"0123456789abcdef"[usize::from(*digit & 15)];
    }
    Ok(digits)
}

fn save(report: &Report, path: &Path) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(format!("{} cannot be written: {error}", path.display()));
    let json = serde_json::to_string_pretty(report).map_err(|error| failed(error.to_string()))?;
    std::fs::write(path, json + "\n").map_err(|error| failed(error.to_string()))?;
    std::fs::write(path.with_extension("md"), report.page()).map_err(|error| failed(error.to_string()))
}

fn sign_report(settings: &Settings, given: &Drill, report: &Report, path: &Path, label: &str) -> Result<(), Failure> {
    let pin = prompt::pin("--user-pin", "user PIN", given.user_pin.as_deref())?;
    let archive = report.archive.as_ref().ok_or_else(|| Failure::new("without an archive no token signs"))?;
    let serial = token_of(archive, &given.which)?.serial;
    let failed = |error: std::io::Error| Failure::new(format!("{} cannot be signed: {error}", path.display()));
    let data = std::fs::read(path).map_err(failed)?;
    let (signature, _) = converse(async {
        let mut token = Talk::open(&settings.socket, &serial).await?;
        token.login(pin.expose()).await?;
        token.sign_by_label(label, &data).await
    })?;
    std::fs::write(path.with_extension("sig"), signature).map_err(failed)
}

fn table(report: &Report) -> Table {
    let mut table = Table::default();
    for step in &report.steps {
        let mark = if step.passed { "ok" } else { "FAILED" };
        table.fact(&format!("{} {}", step.step, step.name), format!("{mark}, {:.2} s: {}", step.seconds, step.finding));
    }
    if let Some(rto) = report.rto_seconds {
        table.fact("RTO", format!("{rto:.1} s from the empty directory to the first verified signature"));
    }
    if let Some(rpo) = report.rpo_seconds {
        let behind = report.changes_since.map(|count| format!(", {count} changes behind the running store"));
        table.fact("RPO", format!("{rpo} s old{}", behind.unwrap_or_default()));
    }
    table.fact("drill", if report.passed { "passed" } else { "FAILED" });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(verified: bool, refused: bool) -> KeyResult {
        KeyResult {
            label: "k".to_owned(),
            id: "01".to_owned(),
            key_type: "CKK_RSA".to_owned(),
            mechanism: None,
            verified_by: verified.then_some("running"),
            why_not: (!verified).then(|| "why".to_owned()),
            refused,
        }
    }

    #[test]
    fn a_drill_without_a_verified_signature_does_not_pass() {
        let (good, failed, other) = (|| key(true, false), || key(false, false), || key(false, true));
        let rows = [
            (vec![], true),
            (vec![good()], true),
            (vec![good(), failed()], true),
            (vec![failed()], false),
            (vec![failed(), failed()], false),
            (vec![good(), other()], false),
        ];
        for (keys, passes) in rows {
            assert_eq!(judged(&keys, 1).is_ok(), passes, "{keys:?}");
        }
    }
}
