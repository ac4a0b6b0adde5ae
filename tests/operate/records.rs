//! Which records each call leaves: what touches a key leaves one, what only looks leaves none, and nothing leaves two.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use acceptance::module::{self, P256, Token, aes, ec, import_aes, pin, token_object};
use acceptance::module_test;
use acceptance::world::{PIN, World};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};

/// The journal, read from where the last call's records ended. A MAC by a key of its own ends each call's records.
struct Book<'a> {
    path: PathBuf,
    session: &'a Session,
    fence: ObjectHandle,
    read: usize,
}

impl Book<'_> {
    /// `op rv` of each record since the last look.
    fn since(&mut self) -> Vec<String> {
        self.session.sign(&Mechanism::Sha256Hmac, self.fence, b"fence").expect("the fence signs");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(&self.path).expect("the journal");
            let whole = text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned();
            let fresh: Vec<&str> = whole[self.read..].lines().collect();
            if let Some(end) = fresh.iter().position(|line| line.contains("CKM_SHA256_HMAC")) {
                self.read += fresh[..=end].iter().map(|line| line.len() + 1).sum::<usize>();
                return fresh[..end].iter().filter_map(|line| said(line)).collect();
            }
            assert!(Instant::now() < deadline, "the record of the fence does not come");
        }
    }
}

/// A record as `op rv`; none for what the journal says about itself.
fn said(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).expect("a record");
    let word = |name: &str| record[name].as_str().expect("a text").to_owned();
    let own = ["checkpoint", "segment_open", "journal_key", "clock_jump"];
    (!own.contains(&word("op").as_str())).then(|| format!("{} {}", word("op"), word("rv")))
}

module_test! {
    fn each_call_leaves_the_records_that_are_promised(world) {
        let token = Token::open();
        let session = token.user();
        let fence = module::hmac_key(&session, 32).expect("a fence");
        let mut book = Book { path: world.journal(), session: &session, fence, read: 0 };
        book.since();
        calls(&session, &mut book, world);
        sessions(&token, &mut book);
    }
}

/// What is done with keys and objects.
fn calls(session: &Session, book: &mut Book<'_>, world: &World) {
    let mut leaves = |call: &str, records: &[&str]| assert_eq!(book.since(), records, "{call}");
    let (public, private) = ec(session, P256, token_object("mine")).expect("a pair");
    leaves("C_GenerateKeyPair", &["generate_key_pair CKR_OK"]);
    let usable =
        [Attribute::Encrypt(true), Attribute::Decrypt(true), Attribute::Sensitive(false), Attribute::Extractable(true)];
    let key = aes(session, 32, &usable).expect("a key");
    leaves("C_GenerateKey", &["generate_key CKR_OK"]);
    let wrapper = aes(session, 32, &[Attribute::Wrap(true), Attribute::Unwrap(true)]).expect("a key");
    leaves("C_GenerateKey", &["generate_key CKR_OK"]);
    let known = import_aes(session, &[7; 32], &usable).expect("imports");
    leaves("C_CreateObject", &["create_object CKR_OK"]);
    let signature = session.sign(&Mechanism::EcdsaSha256, private, b"data").expect("signs");
    leaves("C_Sign", &["sign CKR_OK"]);
    session.verify(&Mechanism::EcdsaSha256, public, b"data", &signature).expect("verifies");
    leaves("C_Verify", &["verify CKR_OK"]);
    session.verify(&Mechanism::EcdsaSha256, public, b"other", &signature).expect_err("another text");
    leaves("C_Verify", &["verify CKR_SIGNATURE_INVALID"]);
    let mut iv = [1; 12];
    let params = GcmParams::new(&mut iv, b"", 128.into()).expect("parameters");
    let sealed = session.encrypt(&Mechanism::AesGcm(params), key, b"data").expect("encrypts");
    leaves("C_Encrypt", &["encrypt CKR_OK"]);
    let mut iv = [1; 12];
    let params = GcmParams::new(&mut iv, b"", 128.into()).expect("parameters");
    session.decrypt(&Mechanism::AesGcm(params), key, &sealed).expect("decrypts");
    leaves("C_Decrypt", &["decrypt CKR_OK"]);
    let mut iv = [1; 12];
    let params = GcmParams::new(&mut iv, b"", 128.into()).expect("parameters");
    session.decrypt(&Mechanism::AesGcm(params), key, &[9; 40]).expect_err("no ciphertext of this key");
    leaves("C_Decrypt", &["decrypt CKR_AEAD_DECRYPT_FAILED"]);
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, wrapper, key).expect("wraps");
    // The binding asks for the length first, which only the daemon knows.
    leaves("C_WrapKey", &["wrap_key CKR_BUFFER_TOO_SMALL", "wrap_key CKR_OK"]);
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(cryptoki::object::KeyType::AES),
        Attribute::Token(false),
        Attribute::Encrypt(true),
    ];
    session.unwrap_key(&Mechanism::AesKeyWrap, wrapper, &wrapped, &template).expect("unwraps");
    leaves("C_UnwrapKey", &["unwrap_key CKR_OK"]);
    let copy = session.copy_object(private, &[Attribute::Label(b"copy".to_vec())]).expect("copies");
    leaves("C_CopyObject", &["copy_object CKR_OK"]);
    session.update_attributes(copy, &[Attribute::Label(b"renamed".to_vec())]).expect("renamed");
    leaves("C_SetAttributeValue", &["set_attributes CKR_OK"]);
    session.get_attributes(copy, &[AttributeType::Label]).expect("read");
    session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).expect("found");
    session.digest(&Mechanism::Sha256, b"data").expect("digested");
    session.generate_random_vec(16).expect("random");
    leaves("what only looks", &[]);
    session.destroy_object(copy).expect("destroyed");
    leaves("C_DestroyObject", &["destroy_object CKR_OK"]);
    session.destroy_object(known).expect("destroyed");
    leaves("C_DestroyObject", &["destroy_object CKR_OK"]);
    session.set_pin(&pin(PIN), &pin(PIN)).expect("the same PIN again");
    leaves("C_SetPIN", &["set_pin CKR_OK"]);
    world.admin(["key", "list", "--pin", "env:PIN"]).ok();
    leaves("key list", &["list_keys CKR_OK"]);
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    leaves("backup", &["backup CKR_OK", "backup CKR_OK"]);
}

/// Sessions and logins, which another application cannot disturb.
fn sessions(token: &Token, book: &mut Book<'_>) {
    let other = token.session();
    other.get_session_info().expect("known");
    assert_eq!(book.since(), [""; 0], "C_OpenSession");
    other.login(UserType::User, Some(&pin(PIN))).expect_err("logged in already");
    assert_eq!(book.since(), ["login CKR_USER_ALREADY_LOGGED_IN"], "C_Login");
}
