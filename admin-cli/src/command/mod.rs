//! One file per branch of the command tree.

pub(crate) mod archives;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod pin;
pub(crate) mod restore;
pub(crate) mod token;

use hsm_proto::v1::TokenName;

use crate::cli::Which;
use crate::output::Table;

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
    table.fact("opens with", format!("the SO PIN of {}", archive.opened_by.join(" or ")));
    for token in &archive.tokens {
        let state = if token.initialized { format!("{} objects", token.objects) } else { "not initialised".to_owned() };
        table.fact("token", format!("slot {}, {:?}, serial {}, {state}", token.slot, token.label, token.serial));
    }
    table
}
