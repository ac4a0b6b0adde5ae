//! `unseal`: brings a sealed token what its store key needs.

use hsm_core::SecretBytes;
use hsm_core::store_key::ModuleKey;
use hsm_proto::v1::unseal_request::Brought;
use hsm_proto::v1::{UnsealReply, UnsealRequest};
use serde::Serialize;

use super::module::OtherToken;
use crate::cli::Unseal;
use crate::config::Settings;
use crate::connect::talk_sealed;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

#[derive(Serialize)]
struct State {
    sealed: bool,
    shares_have: u32,
    shares_needed: u32,
    opens_with: Vec<String>,
}

/// Brings what is given, or asks how far the unsealing is.
pub(crate) fn run(settings: &Settings, given: &Unseal, output: &Output) -> Result<(), Failure> {
    let mut reply = bring(settings, None)?;
    if let Some(place) = &given.passphrase {
        let phrase = prompt::pin("--passphrase", "passphrase", Some(place))?;
        reply = bring(settings, Some(Brought::Passphrase(phrase.expose().to_vec())))?;
    }
    for place in &given.share {
        let share = prompt::pin("--share", "share", Some(place))?;
        reply = bring(settings, Some(Brought::Share(share.expose().to_vec())))?;
    }
    if let Some(module) = &given.module {
        let pin = prompt::pin("--module-pin", "PIN of the other token", given.module_pin.as_deref())?;
        let key = reply.module_keys.first();
        let key = key.ok_or_else(|| Failure::new("the store key does not open with a key of another module"))?;
        let secret = secret_of(module, key, &pin)?;
        reply = bring(settings, Some(Brought::ModuleSecret(secret.expose().to_vec())))?;
    }
    let state = State {
        sealed: reply.sealed,
        shares_have: reply.shares_have,
        shares_needed: reply.shares_needed,
        opens_with: reply.opens_with,
    };
    output.answer(&state, || table(&state))
}

fn secret_of(
    module: &std::path::Path,
    key: &hsm_proto::v1::ModuleKey,
    pin: &SecretBytes,
) -> Result<SecretBytes, Failure> {
    let sealed = ModuleKey {
        token: key.token.clone(),
        label: key.label.clone(),
        iv: key.iv.clone(),
        ciphertext: key.ciphertext.clone(),
    };
    OtherToken::open(module, &sealed.token, pin)?.secret(&sealed)
}

fn bring(settings: &Settings, brought: Option<Brought>) -> Result<UnsealReply, Failure> {
    let request = UnsealRequest { brought, sealed: None };
    talk_sealed(settings, request, |mut daemon, sealed| async move { Ok(daemon.unseal(sealed).await?.into_inner()) })
}

fn table(state: &State) -> Table {
    let mut table = Table::default();
    table.fact("sealed", super::yes_no(state.sealed));
    if state.sealed && state.shares_needed > 0 {
        table.fact("shares", format!("{} of {}", state.shares_have, state.shares_needed));
    }
    for way in &state.opens_with {
        table.fact("opens with", way);
    }
    if state.sealed && state.shares_needed > 0 {
        table.fact("next", "each of the people brings a share: craton-hsm-admin unseal --share -");
    }
    table
}
