//! One file per branch of the command tree.

pub(crate) mod archives;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod health;
pub(crate) mod key;
mod module;
pub(crate) mod pin;
mod redact;
pub(crate) mod restore;
pub(crate) mod store;
pub(crate) mod store_key;
pub(crate) mod token;
pub(crate) mod unseal;

use hsm_proto::v1::TokenName;

use hsm_core::backup::{BackupSecretKey, Credential, Share};

use crate::cli::{Opening, Which};
use crate::failure::Failure;
use crate::output::Table;
use crate::prompt;

impl From<&Which> for TokenName {
    fn from(which: &Which) -> Self {
        TokenName { label: which.token.clone().unwrap_or_default(), slot: which.slot }
    }
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the command line brings to open an archive.
///
/// # Errors
///
/// When it is not to be had where the command line says.
fn credential(given: &Opening) -> Result<Credential, Failure> {
    if let Some(phrase) = &given.passphrase {
        return prompt::pin("--passphrase", "passphrase", Some(phrase)).map(Credential::Passphrase);
    }
    if let Some(file) = &given.secret_key {
        let place = format!("file:{}", file.display());
        let line = prompt::pin("--secret-key", "secret key", Some(&place))?;
        let key = core::str::from_utf8(line.expose()).ok().map(BackupSecretKey::parse);
        let key = key.unwrap_or_else(|| BackupSecretKey::parse(""));
        return Ok(Credential::SecretKey(Box::new(key?)));
    }
    if given.share.is_empty() {
        return prompt::pin("--pin", "SO PIN", given.pin.as_deref()).map(Credential::SoPin);
    }
    let shares = given.share.iter().map(|source| share(source)).collect::<Result<Vec<Share>, Failure>>()?;
    Ok(Credential::Shares(shares))
}

/// One share. The text itself holds a blank, so it is not taken for a place.
fn share(source: &str) -> Result<Share, Failure> {
    let line = prompt::pin("--share", "share", Some(source))?;
    let text = core::str::from_utf8(line.expose()).unwrap_or_default();
    Share::parse(text).map_err(|error| {
        let shown = if source.starts_with("craton-share") { "the share on the command line" } else { source };
        Failure::new(format!("{shown}: {}", error.detail().unwrap_or("not a share")))
    })
}

/// What an archive holds, for people.
fn archive_table(archive: &hsm_core::backup::Manifest) -> Table {
    let mut table = Table::default();
    table.fact("size", format!("{} bytes", archive.bytes));
    table.fact("sha256", &archive.sha256);
    table.fact("taken", hsm_core::audit::export::timestamp(archive.created));
    table.fact("program", format!("{} (archive format {})", archive.program, archive.format));
    table.fact("store", &archive.store);
    table.fact("generation", archive.generation);
    table.fact("records", archive.records);
    table.fact("journal", format!("record {}, head {}", archive.audit_seq, archive.audit_head));
    if let Some(key) = &archive.audit_first_key {
        table.fact("journal's key", key);
    }
    for way in &archive.opened_by {
        table.fact("opens with", way);
    }
    for token in &archive.tokens {
        let state = if token.initialized { format!("{} objects", token.objects) } else { "not initialised".to_owned() };
        table.fact("token", format!("slot {}, {:?}, serial {}, {state}", token.slot, token.label, token.serial));
    }
    table
}
