//! What the journal says, and when.

use super::*;

#[test]
fn the_journal_names_each_use_of_a_key_and_holds_no_secret() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let keys = keys(&world, &caller, session);
    let begin = Begin { mechanism: plain(CKM_ECDSA), key: keys.ec.1 };
    world.hsm.one_shot(&caller, session, OperationKind::Sign, begin, &[1; 32], &[], None).expect("signs");
    let wrong = world.caller(12);
    let other = world.session(&wrong);
    assert!(world.hsm.login(&wrong, other, user::CKU_USER, pin(b"wrong-pin-99")).is_err());
    let journal = world.journal();
    for needle in ["\"init_token\"", "\"login\"", "\"sign\"", "CKM_ECDSA", "\"generate_key_pair\"", "CKR_PIN_INCORRECT"]
    {
        assert!(journal.contains(needle), "{needle} is missing");
    }
    for secret in ["user-pin-123", "so-pin-12345", "wrong-pin-99"] {
        assert!(!journal.contains(secret));
    }
}

#[test]
fn no_plaintext_and_no_oracle_answer_goes_out_without_a_record() {
    let world = world();
    let caller = world.caller(10);
    let session = world.user(&caller);
    let key = keys(&world, &caller, session).aes;
    let begin = || Begin { mechanism: call(CKM_AES_CBC_PAD, Parameter::Bytes(vec![1; 16])), key };
    let (hsm, kind) = (&world.hsm, OperationKind::Decrypt);
    let sealed =
        hsm.one_shot(&caller, session, OperationKind::Encrypt, begin(), &[7; 40], &[], None).expect("encrypts");
    let records = || world.journal().matches("\"op\":\"decrypt\"").count();
    assert_eq!(records(), 0);
    let head = hsm.update(&caller, session, kind, Some(begin()), &sealed, None).expect("gives plaintext");
    assert_eq!((head.len(), records()), (32, 1));
    let refused = hsm.one_shot(&caller, session, kind, begin(), &sealed, &[], Some(0)).expect_err("does not fit");
    assert_eq!((refused.kind(), records()), (Kind::BufferTooSmall, 2));
}

#[test]
fn a_backup_is_recorded_before_its_first_byte() {
    struct Watch<'a>(&'a World, bool);
    impl std::io::Write for Watch<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.0.journal().contains("\"op\":\"backup\"");
            assert!(self.1, "bytes left before the record");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = world();
    let mut watch = Watch(&world, false);
    world.hsm.admin_backup(&peer(1), &crate::TokenName::default(), pin(SO_PIN), &[], &mut watch).expect("a backup");
    assert!(watch.1);
}
