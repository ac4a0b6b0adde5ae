//! SoftHSM2 as the control: what a test asks of our module is asked of another one too.

use std::fs;
use std::path::Path;

use cryptoki_sys::{CK_SLOT_ID, CKR_OK, CKU_SO};

use crate::raw::Raw;
use crate::world::{LABEL, PIN, SO_PIN, World};

/// SoftHSM2, initialised, with a token of its own in the world's directory; nobody is logged in.
///
/// # Panics
/// When it cannot be set up.
pub fn softhsm(world: &World, library: &Path) -> (Raw, CK_SLOT_ID) {
    let tokens = world.dir().join("softhsm-tokens");
    fs::create_dir(&tokens).expect("the world's directory is writable");
    let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
    fs::write(world.dir().join("softhsm2.conf"), conf).expect("the world's directory is writable");
    let raw = Raw::load(library);
    assert_eq!(raw.initialize(), CKR_OK);
    let slot = raw.slots().expect("slots")[0];
    assert_eq!(raw.init_token(slot, SO_PIN, LABEL), CKR_OK);
    // The initialised token has a slot of its own from now on.
    let slot = raw.slots().expect("slots")[0];
    let session = raw.open_session(slot).expect("a session");
    assert_eq!(raw.login_as(session, CKU_SO, SO_PIN), CKR_OK);
    assert_eq!(raw.init_pin(session, PIN), CKR_OK);
    assert_eq!(raw.logout(session), CKR_OK);
    assert_eq!(raw.close_session(session), CKR_OK);
    (raw, slot)
}
