//! `token init`, `token info`, `token auto-login` and `token rotate-key`.

use hsm_core::audit::first_key;
use hsm_proto::v1::{AdminInitTokenRequest, AutoLoginRequest, ListTokensRequest, RotateKeyRequest, TokenSummary};
use serde::Serialize;

use super::yes_no;
use crate::cli::{TokenAutoLogin, TokenInfo, TokenInit, TokenRotateKey};
use crate::config::Settings;
use crate::connect::{talk, talk_sealed};
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

#[derive(Serialize)]
struct Token {
    slot: u64,
    label: String,
    serial: String,
    initialized: bool,
    user_pin_set: bool,
    user_pin_locked: bool,
    so_pin_locked: bool,
    user_pin_failures: u64,
    so_pin_failures: u64,
    objects: u64,
    sessions: u64,
    token_id: String,
    auto_login: bool,
    so_holds_master_key: bool,
}

/// A token that was just made, and what to keep where nobody who has this host can write.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    token: Token,
    /// The journal's first key, as `audit verify --key` takes it; none where the tool may not read the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_key: Option<String>,
}

impl From<TokenSummary> for Token {
    fn from(token: TokenSummary) -> Self {
        Token {
            slot: token.slot,
            label: token.label,
            serial: token.serial,
            initialized: token.initialized,
            user_pin_set: token.user_pin_set,
            user_pin_locked: token.user_pin_locked,
            so_pin_locked: token.so_pin_locked,
            user_pin_failures: token.user_pin_failures,
            so_pin_failures: token.so_pin_failures,
            objects: token.objects,
            sessions: token.sessions,
            token_id: token.token_id,
            auto_login: token.auto_login,
            so_holds_master_key: token.so_holds_master_key,
        }
    }
}

/// Initialises a token.
pub(crate) fn init(settings: &Settings, given: &TokenInit, output: &Output) -> Result<(), Failure> {
    let so_pin = prompt::new_pin("--so-pin", "SO PIN", given.so_pin.as_deref())?;
    let user_pin = prompt::optional_new_pin("--user-pin", "user PIN", given.user_pin.as_deref())?;
    let request = AdminInitTokenRequest {
        slot: given.slot,
        label: given.label.clone(),
        so_pin: so_pin.expose().to_vec(),
        user_pin: user_pin.map(|pin| pin.expose().to_vec()).unwrap_or_default(),
        sealed: None,
    };
    let token = talk_sealed(settings, request, |mut daemon, sealed| async move {
        Ok(daemon.init_token(sealed).await?.into_inner())
    })?;
    let journal_key = first_key(&settings.core.audit.log_path).map(|key| key.to_string());
    let made = Made { token: token.into(), journal_key };
    output.answer(&made, || {
        let mut table = facts(&made.token);
        if let Some(key) = &made.journal_key {
            table.fact("journal's key", format!("{key} (keep it elsewhere: audit verify --key)"));
        }
        table
    })
}

/// Shows all tokens, or the one that was named.
pub(crate) fn info(settings: &Settings, given: &TokenInfo, output: &Output) -> Result<(), Failure> {
    let reply =
        talk(settings, |mut daemon| async move { Ok(daemon.list_tokens(ListTokensRequest {}).await?.into_inner()) })?;
    let which = &given.which;
    let named = |token: &TokenSummary| {
        which.slot.is_none_or(|slot| slot == token.slot)
            && which.token.as_ref().is_none_or(|label| *label == token.label)
    };
    let tokens: Vec<Token> = reply.tokens.into_iter().filter(named).map(Token::from).collect();
    match tokens.as_slice() {
        [] if which.slot.is_some() || which.token.is_some() => Err(Failure::new("there is no such token")),
        [token] => output.answer(&tokens, || facts(token)),
        _ => output.answer(&tokens, || list(&tokens)),
    }
}

fn facts(token: &Token) -> Table {
    let mut table = Table::default();
    table.fact("slot", token.slot);
    table.fact("label", &token.label);
    table.fact("serial", &token.serial);
    table.fact("initialized", yes_no(token.initialized));
    table.fact("user PIN", pin_state(token.user_pin_set, token.user_pin_locked, token.user_pin_failures));
    table.fact("SO PIN", pin_state(token.initialized, token.so_pin_locked, token.so_pin_failures));
    table.fact("logins without PIN", if token.auto_login { "yes (token auto-login)" } else { "no" });
    if token.initialized && !token.so_holds_master_key {
        table.fact("master key", "the SO PIN does not open it: a forgotten user PIN costs the private objects");
    }
    table.fact("objects", token.objects);
    table.fact("sessions", token.sessions);
    table.fact("token id", &token.token_id);
    table
}

fn list(tokens: &[Token]) -> Table {
    let mut table = Table::new(&[
        "SLOT",
        "LABEL",
        "SERIAL",
        "INITIALIZED",
        "USER PIN",
        "SO PIN",
        "AUTO LOGIN",
        "OBJECTS",
        "SESSIONS",
    ]);
    for token in tokens {
        table.row([
            token.slot.to_string(),
            token.label.clone(),
            token.serial.clone(),
            yes_no(token.initialized),
            pin_state(token.user_pin_set, token.user_pin_locked, token.user_pin_failures),
            pin_state(token.initialized, token.so_pin_locked, token.so_pin_failures),
            yes_no(token.auto_login),
            token.objects.to_string(),
            token.sessions.to_string(),
        ]);
    }
    table
}

fn pin_state(set: bool, locked: bool, failures: u64) -> String {
    match (set, locked, failures) {
        (false, ..) => "not set".to_owned(),
        (true, true, _) => "locked".to_owned(),
        (true, false, 0) => "set".to_owned(),
        (true, false, failures) => format!("set, {failures} wrong"),
    }
}

/// Lets clients log in without a PIN, or ends that.
pub(crate) fn auto_login(settings: &Settings, given: &TokenAutoLogin, output: &Output) -> Result<(), Failure> {
    let user_pin = match given.enable {
        true => prompt::pin("--pin", "user PIN", given.pin.as_deref())?.expose().to_vec(),
        false => Vec::new(),
    };
    let request = AutoLoginRequest { token: Some((&given.which).into()), enable: given.enable, user_pin, sealed: None };
    let token = talk_sealed(settings, request, |mut daemon, sealed| async move {
        Ok(daemon.auto_login(sealed).await?.into_inner())
    })?;
    let token = Token::from(token);
    output.answer(&token, || facts(&token))
}

#[derive(Serialize)]
struct Rotation {
    epoch: u32,
    objects: u64,
    complete: bool,
}

/// Gives the token a new master key.
pub(crate) fn rotate_key(settings: &Settings, given: &TokenRotateKey, output: &Output) -> Result<(), Failure> {
    let so_pin = prompt::pin("--pin", "SO PIN", given.pin.as_deref())?;
    let user_pin = match &given.user_pin {
        Some(place) => prompt::pin("--user-pin", "user PIN", Some(place))?.expose().to_vec(),
        None => Vec::new(),
    };
    let request = RotateKeyRequest {
        token: Some((&given.which).into()),
        so_pin: so_pin.expose().to_vec(),
        user_pin,
        sealed: None,
    };
    let reply = talk_sealed(settings, request, |mut daemon, sealed| async move {
        Ok(daemon.rotate_key(sealed).await?.into_inner())
    })?;
    let done = Rotation { epoch: reply.epoch, objects: reply.objects, complete: reply.complete };
    output.answer(&done, || {
        let mut table = Table::default();
        table.fact("master key", format!("number {}", done.epoch));
        table.fact("objects", format!("{} sealed again", done.objects));
        let rest = if done.complete { "gone" } else { "goes at the user's next login" };
        table.fact("old key", rest);
        table
    })
}
