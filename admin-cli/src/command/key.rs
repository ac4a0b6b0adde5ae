//! `key list`.

use hsm_proto::v1::{KeySummary, ListKeysRequest};
use serde::Serialize;

use super::yes_no;
use crate::cli::KeyList;
use crate::config::Settings;
use crate::connect::talk_sealed;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

#[derive(Serialize)]
struct Key {
    handle: u64,
    class: String,
    key_type: String,
    label: String,
    id_hex: String,
    size_bits: u64,
    sensitive: bool,
    extractable: bool,
    local: bool,
    usage: Vec<String>,
}

impl From<KeySummary> for Key {
    fn from(key: KeySummary) -> Self {
        Key {
            handle: key.handle,
            class: key.class,
            key_type: key.key_type,
            label: key.label,
            id_hex: key.id_hex,
            size_bits: key.size_bits,
            sensitive: key.sensitive,
            extractable: key.extractable,
            local: key.local,
            usage: key.usage,
        }
    }
}

/// Lists a token's keys. Without a PIN nothing is asked for: the public ones are shown.
pub(crate) fn list(settings: &Settings, given: &KeyList, output: &Output) -> Result<(), Failure> {
    let pin = given.pin.as_deref().map(|pin| prompt::pin("--pin", "user PIN", Some(pin))).transpose()?;
    let request = ListKeysRequest {
        token: Some((&given.which).into()),
        user_pin: pin.map(|pin| pin.expose().to_vec()).unwrap_or_default(),
        sealed: None,
    };
    let reply = talk_sealed(settings, request, |mut daemon, sealed| async move {
        Ok(daemon.list_keys(sealed).await?.into_inner())
    })?;
    let keys: Vec<Key> = reply.keys.into_iter().map(Key::from).collect();
    output.answer(&keys, || table(&keys))
}

fn table(keys: &[Key]) -> Table {
    let mut table =
        Table::new(&["HANDLE", "CLASS", "TYPE", "BITS", "LABEL", "ID", "SENSITIVE", "EXTRACTABLE", "LOCAL", "USAGE"]);
    for key in keys {
        table.row([
            key.handle.to_string(),
            key.class.clone(),
            key.key_type.clone(),
            key.size_bits.to_string(),
            key.label.clone(),
            key.id_hex.clone(),
            yes_no(key.sensitive),
            yes_no(key.extractable),
            yes_no(key.local),
            key.usage.join(","),
        ]);
    }
    table
}
