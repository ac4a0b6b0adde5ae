//! What the time of an answer might tell about objects that the caller may not see.

use std::hint::black_box;
use std::time::Instant;

use ck::attribute::*;
use ck::mechanism::*;

use super::tests::{plain, world};
use crate::Attr;
use crate::timing::compare;

#[test]
#[ignore = "a measurement"]
fn timing_of_a_private_handle_and_of_none() {
    let world = world();
    let owner = world.caller(10);
    let session = world.user(&owner);
    let template = || vec![Attr::number(CKA_VALUE_LEN, 32), Attr::flag(CKA_TOKEN, true)];
    let key =
        |_| world.hsm.generate_key(&owner, session, plain(CKM_AES_KEY_GEN), template()).expect("generates").object;
    let keys: Vec<u64> = (0..64).map(key).collect();
    let guest = world.caller(11);
    let session = world.session(&guest);
    let mut turn = 0;
    compare("the handle of another's private key, or of nothing", 500_000, |absent| {
        turn += 1;
        let handle = keys[turn % keys.len()] + if absent { 100_000 } else { 0 };
        let begun = Instant::now();
        assert!(black_box(world.hsm.object_size(&guest, session, handle)).is_err());
        begun.elapsed()
    });
}
