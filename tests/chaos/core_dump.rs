//! A core dump of the daemon, taken after logout, holds neither the PIN nor the bytes of a private or secret key, and one of the application no
//! PIN, whichever carrier brought them and while the connections are still open. The same search
//! finds a public word that must be there, so it would have found the others. Mappings that ask to be left out of dumps are
//! included on purpose: what was wiped is wiped, what was merely hidden would be found.

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;

use acceptance::module::{Token, import_aes, import_ec};
use acceptance::module_test;
use acceptance::tools::{self, available, skip};
use acceptance::worker::Worker;
use acceptance::world::{Carrier, LABEL, PIN, SO_PIN, World, trusted};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use data_encoding::HEXLOWER;

/// Not a constant of the program, so that only the daemon's own memory can hold it in one piece.
fn scalar() -> Vec<u8> {
    (0..32u8).map(|i| i.wrapping_mul(37).wrapping_add(0x11)).collect()
}

fn aes_value() -> Vec<u8> {
    (0..32u8).map(|i| i.wrapping_mul(91).wrapping_add(0x23)).collect()
}

module_test! {
    fn a_core_dump_after_logout_holds_no_pin_and_no_key(world) {
        let test = "core_dump::a_core_dump_after_logout_holds_no_pin_and_no_key";
        if !available(test, "gdb") {
            return;
        }
        leaves_nothing(world, test, Token::open().user());
    }
}

module_test! {
    fn a_core_dump_after_a_login_without_a_pin_holds_none_either(world) {
        let test = "core_dump::a_core_dump_after_a_login_without_a_pin_holds_none_either";
        if !available(test, "gdb") {
            return;
        }
        world.stop_daemon();
        world.write_clients(&trusted(rustix::process::geteuid().as_raw()));
        world.configure("clients = \"clients.toml\"");
        world.start_daemon();
        world.take_without_pin();
        let session = Token::open().session();
        session.login(UserType::User, None).expect("nobody is asked for a PIN");
        leaves_nothing(world, test, session);
    }
}

/// Imports keys, uses them, logs out, and looks for them and for the PINs in the daemon's memory.
fn leaves_nothing(world: &World, test: &str, session: Session) {
    let lasting = [Attribute::Token(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
    // A later attribute of the same kind would be a template that contradicts itself: the token flag comes from here only.
    let ec = session
        .copy_object(import_ec(&session, &scalar(), &lasting[1..]).expect("an EC key"), &lasting[..1])
        .expect("stored");
    let aes =
        import_aes(&session, &aes_value(), &[&lasting[1..], &[Attribute::Encrypt(true)]].concat()).expect("an AES key");
    let aes = session.copy_object(aes, &lasting[..1]).expect("stored");
    session.sign(&Mechanism::EcdsaSha256, ec, b"in use").expect("signs");
    session.encrypt(&Mechanism::AesCbcPad([0; 16]), aes, b"in use").expect("encrypts");
    session.logout().expect("logout");
    drop(session);
    let core = world.dir().join("core");
    let pid = world.daemon().pid().to_string();
    let gdb = tools::run(
        Command::new("gdb").args(["-batch", "-nx", "-p", &pid, "-ex", "set dump-excluded-mappings on"]).args([
            "-ex",
            "set use-coredump-filter off",
            "-ex",
            &format!("gcore {}", core.display()),
        ]),
    );
    let Ok(dump) = fs::read(&core) else {
        return skip(test, &format!("gdb cannot attach here ({})", gdb.stderr.lines().last().unwrap_or_default()));
    };
    assert!(found(&dump, LABEL.as_bytes()) && found(&dump, b"craton-hsm-daemon"), "the search finds nothing at all");
    let reversed = |bytes: Vec<u8>| bytes.into_iter().rev().collect::<Vec<u8>>();
    let secrets = [
        ("the user PIN", PIN.as_bytes().to_vec()),
        ("the SO PIN", SO_PIN.as_bytes().to_vec()),
        ("the EC key", scalar()),
        ("the EC key in little-endian words", reversed(scalar())),
        ("half of the EC key", scalar()[..16].to_vec()),
        ("the AES key", aes_value()),
        ("half of the AES key", aes_value()[16..].to_vec()),
    ];
    let held: Vec<&str> = secrets.iter().filter(|(_, bytes)| found(&dump, bytes)).map(|(name, _)| *name).collect();
    assert!(held.is_empty(), "the dump of {} bytes holds {held:?}", dump.len());
}

module_test! {
    fn a_dump_of_the_daemon_holds_a_public_object(world) {
        // The other half of the proof: dumps are of the right process and hold what it knows.
        let test = "core_dump::a_dump_of_the_daemon_holds_a_public_object";
        if !available(test, "gdb") {
            return;
        }
        let token = Token::open();
        let session = token.user();
        let marker = b"a public marker in a public object";
        let template = [
            Attribute::Class(cryptoki::object::ObjectClass::DATA),
            Attribute::Token(false),
            Attribute::Private(false),
            Attribute::Value(marker.to_vec()),
        ];
        session.create_object(&template).expect("data");
        let core = world.dir().join("core");
        let pid = world.daemon().pid().to_string();
        tools::run(Command::new("gdb").args(["-batch", "-nx", "-p", &pid, "-ex", &format!("gcore {}", core.display())]));
        let Ok(dump) = fs::read(&core) else { return skip(test, "gdb cannot attach here") };
        assert!(found(&dump, marker), "the dump of {} bytes does not hold a public object of the daemon", dump.len());
    }
}

fn found(dump: &[u8], bytes: &[u8]) -> bool {
    memchr::memmem::find(dump, bytes).is_some()
}

/// PINs and a passphrase that this story uses, beside those of the world.
const PINS: [(&str, &str); 6] = [
    ("a wrong user PIN", "wrong-user-pin-7391"),
    ("a wrong SO PIN", "wrong-so-pin-64820"),
    ("the user PIN that the SO set", "set-by-the-so-51937"),
    ("the user PIN that the user set", "set-by-the-user-8264"),
    ("the SO PIN that the SO set", "another-so-pin-30755"),
    ("a backup's passphrase", "a passphrase nobody guesses 4417"),
];

/// Which of these the daemon's memory holds.
fn held(world: &World, secrets: &[(String, Vec<u8>)]) -> Option<Vec<String>> {
    held_by(world, world.daemon().pid(), [LABEL, "craton-hsm-daemon"], secrets)
}

/// Which of these a process's memory holds, whatever asks to be left out of dumps; nothing where nobody may look. Keys are also looked for by
/// half and in the reverse order of bytes. What is public must be found.
fn held_by(world: &World, pid: u32, public: [&str; 2], secrets: &[(String, Vec<u8>)]) -> Option<Vec<String>> {
    let core = world.dir().join("core.all");
    let pid = pid.to_string();
    tools::run(Command::new("gdb").args(["-batch", "-nx", "-p", &pid, "-ex", "set dump-excluded-mappings on"]).args([
        "-ex",
        "set use-coredump-filter off",
        "-ex",
        &format!("gcore {}", core.display()),
    ]));
    let mut dump = File::open(&core).ok()?;
    fs::remove_file(&core).expect("our own file");
    let public = public.map(|word| (word.to_owned(), word.as_bytes().to_vec()));
    let mut wanted: Vec<(String, Vec<u8>)> = public.to_vec();
    for (name, bytes) in secrets {
        wanted.push((name.clone(), bytes.clone()));
        if name.contains("PIN") || name.contains("passphrase") {
            continue;
        }
        let (first, last) = bytes.split_at(bytes.len() / 2);
        wanted.push((format!("{name} reversed"), bytes.iter().rev().copied().collect()));
        wanted.extend([
            (format!("first half of {name}"), first.to_vec()),
            (format!("last half of {name}"), last.to_vec()),
        ]);
    }
    let mut seen = vec![false; wanted.len()];
    // A dump is larger than what a test should keep in memory; what lies across two pieces is found in the second.
    let (mut piece, mut kept) = (vec![0; PIECE], 0);
    loop {
        let read = dump.read(&mut piece[kept..]).expect("our own file");
        let text = &piece[..kept + read];
        for ((_, bytes), seen) in wanted.iter().zip(&mut seen) {
            *seen |= found(text, bytes);
        }
        if read == 0 {
            break;
        }
        let len = kept + read;
        kept = len.min(OVERLAP);
        piece.copy_within(len - kept..len, 0);
    }
    assert!(seen[..public.len()].iter().all(|seen| *seen), "the search finds nothing at all");
    let names = wanted.into_iter().zip(seen).skip(public.len());
    Some(names.filter(|(_, seen)| *seen).map(|((name, _), _)| name).collect())
}

/// So much of a dump is looked at at once, and so much of the end of one piece once more with the next.
const PIECE: usize = 32 << 20;
const OVERLAP: usize = 8 << 10;

/// PINs are set, changed and mistaken, a backup is taken, keys of every type are imported, generated, derived and unwrapped.
fn nothing_stays(test: &str, carrier: Carrier) {
    if !available(test, "gdb") || (carrier == Carrier::Grpc && !available(test, "openssl")) {
        return;
    }
    let mut world = World::unstarted_for(carrier);
    world.start_daemon();
    world.init_token();
    let [wrong, wrong_so, by_so, by_user, other_so, phrase] = PINS.map(|(_, text)| text);
    let mut worker = Worker::opened(&world);
    assert_ne!(worker.ok(&format!("login-with user {wrong}")), "ok");
    assert_ne!(worker.ok(&format!("login-with so {wrong_so}")), "ok");
    assert_eq!(worker.ok(&format!("login-with so {SO_PIN}")), "ok");
    worker.ok(&format!("init-pin {by_so}"));
    worker.ok(&format!("set-pin {SO_PIN} {other_so}"));
    worker.ok("logout");
    assert_eq!(worker.ok(&format!("login-with user {by_so}")), "ok");
    worker.ok(&format!("set-pin {by_so} {by_user}"));
    let keys = worker.ok("secrets");
    let place = |name: &str, text: &str| {
        let path = world.dir().join(name);
        fs::write(&path, text).expect("our own directory");
        format!("file:{}", path.display())
    };
    let (pin, phrase) = (place("so-pin", other_so), place("phrase", phrase));
    world.admin(["backup", "--pin", &pin, "--passphrase", &phrase, "--output", "b.enc"]).ok();
    let mut secrets: Vec<(String, Vec<u8>)> =
        PINS.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    secrets.extend([("the user PIN", PIN), ("the SO PIN", SO_PIN)].map(|(name, pin)| (name.to_owned(), pin.into())));
    // The connections are open and idle: what the libraries of HTTP/2 and TLS read is still in their buffers.
    let Some(kept) = held(&world, &secrets) else { return skip(test, "gdb cannot attach here") };
    assert!(kept.is_empty(), "while the user is logged in, the daemon holds {kept:?}");
    worker.ok("logout");
    let keys: Vec<(String, Vec<u8>)> = keys
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, hex)| (name.to_owned(), HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal digits")))
        .collect();
    assert!(keys.len() >= 20, "{} secret parts", keys.len());
    secrets.extend(keys);
    let Some(kept) = held(&world, &secrets) else { return skip(test, "gdb cannot attach here") };
    assert!(kept.is_empty(), "after logout the daemon holds {kept:?}");
    println!("TABLE core dumps, {carrier:?}: {} PINs, passphrases and secret parts of keys, 0 copies", secrets.len());
    drop(worker);
}

#[test]
fn no_pin_stays_and_after_logout_no_key_of_any_type_over_the_express_lane() {
    let test = "core_dump::no_pin_stays_and_after_logout_no_key_of_any_type_over_the_express_lane";
    nothing_stays(test, Carrier::Express);
}

#[test]
fn no_pin_stays_and_after_logout_no_key_of_any_type_over_grpc() {
    let test = "core_dump::no_pin_stays_and_after_logout_no_key_of_any_type_over_grpc";
    nothing_stays(test, Carrier::Grpc);
}

/// PINs of the application's side, which its own binary does not hold.
const WRONG: &str = "mistaken-pin-60253";
const FIRST: &str = "the-first-pin-1948";
const SECOND: &str = "the-second-pin-7702";

/// A PIN as a worker takes it without holding it.
fn masked(pin: &str) -> String {
    HEXLOWER.encode(&pin.bytes().map(|byte| !byte).collect::<Vec<u8>>())
}

/// The application mistakes its PIN, gives it, gives it for one use, and changes it.
fn no_pin_stays_in_the_application(test: &str, carrier: Carrier) {
    if !available(test, "gdb") || (carrier == Carrier::Grpc && !available(test, "openssl")) {
        return;
    }
    let mut world = World::unstarted_for(carrier);
    world.start_daemon();
    world.init_token();
    let place = |name: &str, text: &str| {
        let path = world.dir().join(name);
        fs::write(&path, text).expect("our own directory");
        format!("file:{}", path.display())
    };
    let (old, new) = (place("pin.old", PIN), place("pin.new", FIRST));
    world.admin(["pin", "change", "--pin", &old, "--new-pin", &new]).ok();
    let mut worker = Worker::opened(&world);
    let lines = [
        (format!("masked-login 1 {}", masked(WRONG)), "rv 0xa0"),
        (format!("masked-login 1 {}", masked(FIRST)), "rv 0x0"),
        (format!("context-login {}", masked(FIRST)), "rv 0x0 0x0 0x0"),
        (format!("masked-set-pin {} {}", masked(FIRST), masked(SECOND)), "rv 0x0"),
        (format!("context-login {}", masked(SECOND)), "rv 0x0 0x0 0x0"),
    ];
    for (line, expected) in lines {
        assert_eq!(worker.ok(&line), expected, "{}", line.split(' ').next().unwrap_or_default());
    }
    let pins = [WRONG, FIRST, SECOND].map(|pin| (format!("the PIN {pin}"), pin.as_bytes().to_vec()));
    let Some(kept) = held_by(&world, worker.pid(), [LABEL, "acceptance-worker"], &pins) else {
        return skip(test, "gdb cannot attach here");
    };
    assert!(kept.is_empty(), "while the user is logged in, the application holds {kept:?}");
    let kept = held(&world, &pins).unwrap_or_default();
    assert!(kept.is_empty(), "while the user is logged in, the daemon holds {kept:?}");
    drop(worker);
}

#[test]
fn no_pin_stays_in_the_application_over_the_express_lane() {
    let test = "core_dump::no_pin_stays_in_the_application_over_the_express_lane";
    no_pin_stays_in_the_application(test, Carrier::Express);
}

#[test]
fn no_pin_stays_in_the_application_over_grpc() {
    let test = "core_dump::no_pin_stays_in_the_application_over_grpc";
    no_pin_stays_in_the_application(test, Carrier::Grpc);
}
