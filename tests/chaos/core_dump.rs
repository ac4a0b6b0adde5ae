//! A core dump of the daemon, taken after logout, holds neither the PIN nor the bytes of a private or secret key. The same search
//! finds a public word that must be there, so it would have found the others. Mappings that ask to be left out of dumps are
//! included on purpose: what was wiped is wiped, what was merely hidden would be found.

use std::fs;
use std::process::Command;

use acceptance::module::{Token, import_aes, import_ec};
use acceptance::module_test;
use acceptance::tools::{self, available, skip};
use acceptance::world::{LABEL, PIN, SO_PIN};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;

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
        let token = Token::open();
        let session = token.user();
        let lasting = [Attribute::Token(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
        // A later attribute of the same kind would be a template that contradicts itself: the token flag comes from here only.
        let ec = session.copy_object(import_ec(&session, &scalar(), &lasting[1..]).expect("an EC key"), &lasting[..1]).expect("stored");
        let aes = import_aes(&session, &aes_value(), &[&lasting[1..], &[Attribute::Encrypt(true)]].concat()).expect("an AES key");
        let aes = session.copy_object(aes, &lasting[..1]).expect("stored");
        session.sign(&Mechanism::EcdsaSha256, ec, b"in use").expect("signs");
        session.encrypt(&Mechanism::AesCbcPad([0; 16]), aes, b"in use").expect("encrypts");
        session.logout().expect("logout");
        drop(session);
        let core = world.dir().join("core");
        let pid = world.daemon().pid().to_string();
        let gdb = tools::run(
            Command::new("gdb")
                .args(["-batch", "-nx", "-p", &pid, "-ex", "set dump-excluded-mappings on"])
                .args(["-ex", "set use-coredump-filter off", "-ex", &format!("gcore {}", core.display())]),
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
    // The first byte alone rules out most places.
    let mut rest = dump;
    while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
        if rest[at..].starts_with(bytes) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
