//! Which records each call leaves: what touches a key leaves one, what only looks leaves none, and nothing leaves two. Every row of the
//! core's act table is seen here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use acceptance::daemon::workspace;
use acceptance::module::{self, P256, SESSION, Token, aes, ec, import_aes, ml_kem, pin, rsa, token_object};
use acceptance::module_test;
use acceptance::raw::{Memory, Raw, Room};
use acceptance::tools::available;
use acceptance::worker::Worker;
use acceptance::world::{PIN, World};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::MechanismType;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::hkdf::HkdfParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, MlKemParameterSetType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki_sys::*;

/// The journal, read from where the last call's records ended. A MAC by a key of its own ends each call's records.
struct Book<'a> {
    path: PathBuf,
    session: &'a Session,
    fence: ObjectHandle,
    read: usize,
    /// Operations that have left a record.
    seen: BTreeSet<String>,
}

impl Book<'_> {
    /// `op rv` of each record since the last look.
    fn since(&mut self) -> Vec<String> {
        self.session.sign(&Mechanism::Sha256Hmac, self.fence, b"fence").expect("the fence signs");
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let text = fs::read_to_string(&self.path).expect("the journal");
            let whole = text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned();
            let fresh: Vec<&str> = whole[self.read..].lines().collect();
            if let Some(end) = fresh.iter().position(|line| line.contains("CKM_SHA256_HMAC")) {
                self.read += fresh[..=end].iter().map(|line| line.len() + 1).sum::<usize>();
                let said: Vec<String> = fresh[..end].iter().filter_map(|line| said(line)).collect();
                self.seen.extend(said.iter().filter_map(|record| record.split_once(' ')).map(|(op, _)| op.to_owned()));
                return said;
            }
            assert!(Instant::now() < deadline, "the record of the fence does not come");
        }
    }
}

/// A record as `op rv`; none for what the journal says about itself.
fn said(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).expect("a record");
    let word = |name: &str| record[name].as_str().expect("a text").to_owned();
    let own = ["checkpoint", "segment_open", "journal_open", "journal_key", "clock_jump"];
    (!own.contains(&word("op").as_str())).then(|| format!("{} {}", word("op"), word("rv")))
}

module_test! {
    fn each_call_leaves_the_records_that_are_promised(world) {
        if !available("records::each_call_leaves_the_records_that_are_promised", "pkcs11-tool") {
            return;
        }
        let token = Token::open();
        let session = token.user();
        let fence = module::hmac_key(&session, 32).expect("a fence");
        let mut book = Book { path: world.journal(), session: &session, fence, read: 0, seen: BTreeSet::new() };
        book.since();
        calls(&session, &mut book, world);
        parts(&session, &mut book);
        derived(&session, &mut book);
        sessions(&token, &mut book);
        let mut seen = std::mem::take(&mut book.seen);
        seen.extend(administration());
        for (act, file) in ELSEWHERE {
            let test = fs::read_to_string(workspace().join(file)).expect("a test");
            assert!(test.contains(&format!("\\\"op\\\":\\\"{act}\\\"")), "{file} looks for the record of {act}");
            seen.insert(act.to_owned());
        }
        let missing: Vec<String> = recorded_acts().into_iter().filter(|act| !seen.contains(act)).collect();
        assert!(missing.is_empty(), "no call was seen to leave {missing:?}");
    }
}

/// Acts that take two daemons, or a client that is not ours, and the test that plays them and looks for their records.
const ELSEWHERE: [(&str, &str); 2] =
    [("witness_checkpoint", "tests/backup/witness.rs"), ("refuse_secret", "hsm-daemon/tests/sealed.rs")];

/// The rows of the core's act table that promise a record.
fn recorded_acts() -> Vec<String> {
    let table = fs::read_to_string(workspace().join("hsm-core/src/act.rs")).expect("the act table");
    let rows = table.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once(':'));
    let named = rows.filter_map(|(_, row)| row.trim().strip_prefix('"')?.split_once('"'));
    let acts: Vec<String> =
        named.filter(|(_, row)| !row.ends_with(" Never")).map(|(name, _)| name.to_owned()).collect();
    assert!(acts.len() > 20, "{acts:?}");
    acts
}

/// Operations in parts, over messages, and with recovery.
fn parts(session: &Session, book: &mut Book<'_>) {
    let raw = Raw::load(&module::path());
    let mut leaves = |call: &str, records: &[&str]| assert_eq!(book.since(), records, "{call}");
    let (public, private) = ec(session, P256, SESSION).expect("a pair");
    leaves("C_GenerateKeyPair", &["generate_key_pair CKR_OK"]);
    let h = session.handle();
    assert_eq!(raw.sign_init(h, CKM_ECDSA_SHA256, private.handle()), CKR_OK);
    assert_eq!(raw.sign_update(h, b"one"), CKR_OK);
    assert_eq!(raw.sign_update(h, b"two"), CKR_OK);
    let signed = raw.sign_final(h, Room::Bytes(64));
    assert_eq!(signed.rv, CKR_OK);
    // The first piece may give something out, and the end does; the pieces between say nothing more.
    leaves("C_SignUpdate, C_SignFinal", &["sign CKR_OK", "sign CKR_OK"]);
    let data = Memory::of(b"onetwo");
    let (out, len) = (Memory::zeroed(256), Memory::words(&[256]));
    let plain = Memory::words(&[CKM_ECDSA_SHA256, 0, 0]);
    assert_eq!(raw.call("C_MessageSignInit", &[h, plain.address(), private.handle()]), CKR_OK);
    assert_eq!(raw.call("C_SignMessage", &[h, 0, 0, data.address(), 6, out.address(), len.address()]), CKR_OK);
    assert_eq!(raw.call("C_MessageSignFinal", &[h]), CKR_OK);
    leaves("C_SignMessage", &["sign CKR_OK"]);
    session.verify(&Mechanism::EcdsaSha256, public, b"onetwo", &signed.bytes).expect("verifies");
    leaves("C_Verify", &["verify CKR_OK"]);
    let (public, private) = rsa(session, 2048, SESSION).expect("a pair");
    leaves("C_GenerateKeyPair", &["generate_key_pair CKR_OK"]);
    let mechanism = Memory::words(&[CKM_RSA_PKCS, 0, 0]);
    assert_eq!(raw.call("C_SignRecoverInit", &[h, mechanism.address(), private.handle()]), CKR_OK);
    len.set(0, 256);
    assert_eq!(raw.call("C_SignRecover", &[h, data.address(), 6, out.address(), len.address()]), CKR_OK);
    leaves("C_SignRecover", &["sign CKR_OK"]);
    let (back, back_len) = (Memory::zeroed(256), Memory::words(&[256]));
    assert_eq!(raw.call("C_VerifyRecoverInit", &[h, mechanism.address(), public.handle()]), CKR_OK);
    let arguments = [h, out.address(), 256, back.address(), back_len.address()];
    assert_eq!(raw.call("C_VerifyRecover", &arguments), CKR_OK);
    leaves("C_VerifyRecover", &["verify CKR_OK"]);
    let readable = aes(session, 32, &[Attribute::Sensitive(false), Attribute::Extractable(true)]).expect("a key");
    leaves("C_GenerateKey", &["generate_key CKR_OK"]);
    assert_eq!(raw.digest_init(h, CKM_SHA256), CKR_OK);
    assert_eq!(raw.call("C_DigestKey", &[h, readable.handle()]), CKR_OK);
    assert_eq!(raw.call("C_DigestFinal", &[h, out.address(), len.address()]), CKR_OK);
    leaves("C_DigestKey", &["digest_key CKR_OK"]);
}

/// Keys made of other keys.
fn derived(session: &Session, book: &mut Book<'_>) {
    let raw = Raw::load(&module::path());
    let mut leaves = |call: &str, records: &[&str]| assert_eq!(book.since(), records, "{call}");
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::HKDF),
        Attribute::Token(false),
        Attribute::Derive(true),
        Attribute::Value(vec![7; 32]),
    ];
    let base = session.create_object(&template).expect("imports");
    leaves("C_CreateObject", &["create_object CKR_OK"]);
    let params = HkdfParams::new(MechanismType::SHA256, None, Some(b"info"));
    let child = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::ValueLen(32.into()),
    ];
    session.derive_key(&Mechanism::HkdfDerive(params), base, &child).expect("derives");
    leaves("C_DeriveKey", &["derive_key CKR_OK"]);
    let (public, private) = ml_kem(session, MlKemParameterSetType::ML_KEM_768, SESSION).expect("a pair");
    leaves("C_GenerateKeyPair", &["generate_key_pair CKR_OK"]);
    let wanted = [(CKA_KEY_TYPE, CKK_AES)];
    let (given, _) = raw.encapsulate(session.handle(), public.handle(), &wanted, Room::Bytes(1088));
    assert_eq!(given.rv, CKR_OK);
    leaves("C_EncapsulateKey", &["encapsulate_key CKR_OK"]);
    raw.decapsulate(session.handle(), private.handle(), &wanted, &given.bytes).expect("decapsulates");
    leaves("C_DecapsulateKey", &["decapsulate_key CKR_OK"]);
}

/// What administrators do, in a world of their own. A list of keys ends each step's records, because its own is durable.
fn administration() -> BTreeSet<String> {
    let mut world = World::blank();
    let mut read = 0;
    let mut seen = BTreeSet::new();
    let mut since = |world: &World| -> Vec<String> {
        world.admin(["key", "list"]).ok();
        let text = fs::read_to_string(world.journal()).expect("the journal");
        let said: Vec<String> = text[read..].lines().filter_map(said).collect();
        read = text.len();
        seen.extend(said.iter().filter_map(|record| record.split_once(' ')).map(|(op, _)| op.to_owned()));
        let mut own = said;
        assert!(own.pop().is_some_and(|last| last == "list_keys CKR_OK"), "the fence left no record");
        own
    };
    world.pkcs11_tool(["--slot", "0", "--list-objects"]).refused();
    world.init_token();
    let begun = ["open_session CKR_TOKEN_NOT_RECOGNIZED", "init_token CKR_OK", "reset_pin CKR_OK"];
    assert_eq!(since(&world)[..], begun, "C_OpenSession, refused, and token init");
    world.admin(["pin", "change", "--pin", "env:PIN", "--new-pin", "env:PIN"]).ok();
    assert_eq!(since(&world)[..], ["set_pin CKR_OK"], "pin change");
    world.admin(["pin", "change", "--pin", "wrong-pin-1", "--new-pin", "env:PIN"]).refused();
    assert_eq!(since(&world)[..], ["set_pin CKR_PIN_INCORRECT"], "pin change, refused");
    world.admin(["pin", "reset", "--so-pin", "env:SO_PIN", "--new-pin", "env:PIN"]).ok();
    assert_eq!(since(&world)[..], ["reset_pin CKR_OK"], "pin reset");
    let mut worker = Worker::opened(&world);
    assert_eq!(since(&world)[..], [""; 0], "C_OpenSession");
    worker.ok("login");
    assert_eq!(since(&world)[..], ["login CKR_OK"], "C_Login");
    worker.ok("logout");
    assert_eq!(since(&world)[..], ["logout CKR_OK"], "C_Logout");
    worker.vanish();
    world.admin(["token", "rotate-key", "--pin", "env:SO_PIN", "--user-pin", "env:PIN"]).ok();
    assert_eq!(since(&world)[..], ["rotate_key CKR_OK"], "token rotate-key");
    world.admin(["token", "auto-login", "--enable", "--pin", "env:PIN"]).ok();
    assert_eq!(since(&world)[..], ["auto_login CKR_OK"], "token auto-login --enable");
    world.admin(["token", "auto-login", "--disable"]).ok();
    assert_eq!(since(&world)[..], ["auto_login CKR_OK"], "token auto-login --disable");
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    assert_eq!(since(&world)[..], ["backup CKR_OK", "backup CKR_OK"], "backup: its beginning and its end");
    fs::write(world.dir().join("phrase"), "six words that nobody else knows\n").expect("our own directory");
    world.admin(["store-key", "seal", "--passphrase", "file:phrase"]).ok();
    world.stop_daemon();
    world.start_daemon();
    world.admin(["unseal", "--passphrase", "file:phrase"]).ok();
    assert_eq!(since(&world)[..], ["unseal CKR_OK"], "a start, and unseal");
    let so = ["--login", "--login-type", "so", "--so-pin", acceptance::world::SO_PIN];
    world.pkcs11_tool(so.into_iter().chain(["--init-pin", "--new-pin", PIN])).ok();
    assert_eq!(since(&world)[..], ["login CKR_OK", "init_pin CKR_OK"], "C_Login, C_InitPIN");
    seen
}

/// The same call by the command line, and what a refusal of it leaves; none for what only looks.
const REFUSED: [(&[&str], Option<&str>); 11] = [
    (&["token", "init", "--label", "x", "--so-pin", "env:SO_PIN"], Some("init_token")),
    (&["pin", "change", "--pin", "env:PIN", "--new-pin", "env:PIN"], Some("set_pin")),
    (&["pin", "reset", "--so-pin", "env:SO_PIN", "--new-pin", "env:PIN"], Some("reset_pin")),
    (&["key", "list"], Some("list_keys")),
    (&["key", "list", "--pin", "env:PIN"], Some("list_keys")),
    (&["token", "rotate-key", "--pin", "env:SO_PIN", "--user-pin", "env:PIN"], Some("rotate_key")),
    (&["token", "auto-login", "--enable", "--pin", "env:PIN"], Some("auto_login")),
    (&["token", "auto-login", "--disable"], Some("auto_login")),
    (&["backup", "--pin", "env:SO_PIN", "--output", "token.backup"], Some("backup")),
    (&["status"], None),
    (&["token", "info"], None),
];

/// The records that these commands left, each of which is refused.
fn refused(world: &mut World, more: &[&str], rv: &str) {
    let before = fs::read_to_string(world.journal()).expect("the journal").len();
    let named = |command: &[&str]| !more.is_empty() && command.starts_with(&["token", "init"]);
    let commands = || REFUSED.iter().filter(|(command, act)| !named(command) && (more.is_empty() || act.is_some()));
    for (command, _) in commands() {
        world.admin(command.iter().chain(more)).refused();
    }
    world.stop_daemon();
    let text = fs::read_to_string(world.journal()).expect("the journal");
    let left: Vec<String> = text[before..].lines().filter_map(said).collect();
    let promised: Vec<String> = commands().filter_map(|(_, act)| act.map(|act| format!("{act} {rv}"))).collect();
    assert_eq!(left, promised);
}

#[test]
fn who_may_not_administer_leaves_the_record_of_what_was_refused() {
    let mut world = World::start();
    world.stop_daemon();
    let owner = fs::metadata(world.dir()).expect("our own directory").uid();
    world.write_clients(&format!("[[client]]\nuid = {owner}\nroles = [\"use\"]\ntokens = [\"*\"]\n"));
    world.configure("clients = \"clients.toml\"\n");
    world.start_daemon();
    refused(&mut world, &[], "CKR_ACTION_PROHIBITED");
}

#[test]
fn what_is_asked_of_a_token_that_is_not_there_leaves_its_record() {
    let mut world = World::start();
    refused(&mut world, &["--token", "nobody"], "CKR_TOKEN_NOT_RECOGNIZED");
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
    leaves("C_WrapKey", &["wrap_key CKR_OK"]);
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
