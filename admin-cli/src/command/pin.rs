//! `pin change` and `pin reset`.

use hsm_proto::v1::{AdminChangePinRequest, AdminResetPinRequest};
use serde::Serialize;

use crate::cli::{PinChange, PinReset, UserType};
use crate::config::Settings;
use crate::connect::talk_sealed;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::prompt;

#[derive(Serialize)]
struct Changed {
    changed: &'static str,
}

impl UserType {
    fn number(self) -> u64 {
        match self {
            UserType::So => ck::flags::user::CKU_SO,
            UserType::User => ck::flags::user::CKU_USER,
        }
    }

    fn name(self) -> &'static str {
        match self {
            UserType::So => "SO PIN",
            UserType::User => "user PIN",
        }
    }
}

/// Changes a PIN, given the old one.
pub(crate) fn change(settings: &Settings, given: &PinChange, output: &Output) -> Result<(), Failure> {
    let name = given.user_type.name();
    let old = prompt::pin("--pin", &format!("old {name}"), given.pin.as_deref())?;
    let new = prompt::new_pin("--new-pin", &format!("new {name}"), given.new_pin.as_deref())?;
    let request = AdminChangePinRequest {
        token: Some((&given.which).into()),
        user: given.user_type.number(),
        old_pin: old.expose().to_vec(),
        new_pin: new.expose().to_vec(),
        sealed: None,
    };
    talk_sealed(settings, request, |mut daemon, sealed| async move { Ok(daemon.change_pin(sealed).await.map(drop)?) })?;
    done(output, name)
}

/// The SO sets a new user PIN.
pub(crate) fn reset(settings: &Settings, given: &PinReset, output: &Output) -> Result<(), Failure> {
    let so_pin = prompt::pin("--so-pin", "SO PIN", given.so_pin.as_deref())?;
    let new = prompt::new_pin("--new-pin", "new user PIN", given.new_pin.as_deref())?;
    let request = AdminResetPinRequest {
        token: Some((&given.which).into()),
        so_pin: so_pin.expose().to_vec(),
        new_user_pin: new.expose().to_vec(),
        sealed: None,
    };
    talk_sealed(settings, request, |mut daemon, sealed| async move { Ok(daemon.reset_pin(sealed).await.map(drop)?) })?;
    done(output, UserType::User.name())
}

fn done(output: &Output, changed: &'static str) -> Result<(), Failure> {
    output.answer(&Changed { changed }, || {
        let mut table = Table::default();
        table.fact("changed", changed);
        table
    })
}
