//! `store-key`: whether a start of the daemon waits for people, and for whom.

use std::path::Path;

use hsm_core::backup::{Credential, For, Share, new_shares};
use hsm_core::store_key::{KeyState, key_state, open_store_key, seal_store_key};
use zeroize::Zeroizing;

use super::module::OtherToken;
use crate::cli::{StoreKey, StoreKeySeal, Unseal};
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Output, Table, write_new};
use crate::prompt;

/// Shows, seals or opens the store key's file.
pub(crate) fn run(settings: &Settings, given: &StoreKey, output: &Output) -> Result<(), Failure> {
    let state = match given {
        StoreKey::Show => key_state(&settings.core),
        StoreKey::Seal(given) => return seal(settings, given, output),
        StoreKey::Open(given) => open_store_key(&settings.core, &credential(settings, given)?),
    };
    shown(&state.map_err(|error| Failure::new(error.to_string()))?, output)
}

fn shown(state: &KeyState, output: &Output) -> Result<(), Failure> {
    output.answer(state, || {
        let mut table = Table::default();
        table.fact("store key", state.path.display());
        table.fact("sealed", super::yes_no(state.sealed));
        for way in &state.opens_with {
            table.fact("opens with", way);
        }
        table
    })
}

fn seal(settings: &Settings, given: &StoreKeySeal, output: &Output) -> Result<(), Failure> {
    let mut whom = Vec::new();
    if let Some(place) = &given.passphrase {
        whom.push(For::Passphrase(prompt::new_pin("--passphrase", "passphrase", Some(place))?));
    }
    if let Some((threshold, count)) = given.shares {
        let (key, shares) = new_shares(threshold, count)?;
        write_shares(given.shares_directory.as_deref().unwrap_or(Path::new(".")), &shares)?;
        whom.push(For::Shares(shares[0].set(), key));
    }
    if let (Some(module), Some(token), Some(label)) = (&given.module, &given.module_token, &given.module_key) {
        let pin = prompt::pin("--module-pin", "PIN of the other token", given.module_pin.as_deref())?;
        let (key, secret) = OtherToken::open(module, token, &pin)?.new_secret(label)?;
        whom.push(For::Module(key, secret));
    }
    if whom.is_empty() {
        return Err(Failure::new("say for whom: --passphrase, --shares or --module"));
    }
    let old = match &given.old_passphrase {
        Some(place) => Some(Credential::Passphrase(prompt::pin("--old-passphrase", "passphrase", Some(place))?)),
        None => None,
    };
    let function = settings.core.pin.function;
    let state = seal_store_key(&settings.core, &whom, function, old.as_ref());
    shown(&state.map_err(|error| Failure::new(error.to_string()))?, output)
}

fn write_shares(directory: &Path, shares: &[Share]) -> Result<(), Failure> {
    for share in shares {
        let file = directory.join(format!("store-key.share-{}", share.index()));
        let text = Zeroizing::new(format!("{}\n", share.to_text().as_str()));
        write_new(&file, 0o600, text.as_bytes())?;
    }
    Ok(())
}

fn credential(settings: &Settings, given: &Unseal) -> Result<Credential, Failure> {
    if let Some(place) = &given.passphrase {
        return prompt::pin("--passphrase", "passphrase", Some(place)).map(Credential::Passphrase);
    }
    if let Some(module) = &given.module {
        let pin = prompt::pin("--module-pin", "PIN of the other token", given.module_pin.as_deref())?;
        let keys = hsm_core::store_key::module_keys(&settings.core);
        let keys = keys.map_err(|error| Failure::new(error.to_string()))?;
        let key = keys.first().ok_or_else(|| Failure::new("the store key does not open with another module"))?;
        return OtherToken::open(module, &key.token, &pin)?.secret(key).map(Credential::Module);
    }
    if given.share.is_empty() {
        return Err(Failure::new("say what opens it: --passphrase, --share or --module"));
    }
    given.share.iter().map(|place| super::share(place)).collect::<Result<_, _>>().map(Credential::Shares)
}
