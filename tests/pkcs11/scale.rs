//! Many objects in a token, in little: `make scale` measures what is counted here.

use std::thread;

use acceptance::module::{self, Token};
use acceptance::module_test;
use acceptance::raw::Raw;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};

/// More than the daemon opens before it is ready.
const OBJECTS: usize = 1_300;
const THREADS: usize = 16;

fn label(index: usize) -> Attribute {
    Attribute::Label(format!("object-{index}").into())
}

module_test! {
    fn many_objects_are_made_at_once_and_all_are_found_after_a_restart(world) {
        let token = Token::open();
        let session = token.user();
        thread::scope(|scope| {
            for first in 0..THREADS {
                let token = &token;
                scope.spawn(move || {
                    let session = token.session();
                    for index in (first..OBJECTS).step_by(THREADS) {
                        let data = [Attribute::Class(ObjectClass::DATA), Attribute::Token(true), Attribute::Private(index % 2 == 0)];
                        session.create_object(&[&data[..], &[label(index)]].concat()).expect("an object");
                    }
                });
            }
        });
        let (public, private) = module::ec(&session, module::P256, module::token_object("key")).expect("a key");
        world.crash_and_restart();
        // The first call may come while the daemon still opens them.
        let session = token.session();
        assert_eq!(session.find_objects(&[]).expect("find").len(), OBJECTS / 2 + 1, "what is public");
        session.login(cryptoki::session::UserType::User, Some(&module::pin(acceptance::world::PIN))).expect("logs in");
        assert_eq!(session.find_objects(&[label(7)]).expect("find").len(), 1);
        assert_eq!(session.find_objects(&[label(OBJECTS)]).expect("find").len(), 0);
        let signature = session.sign(&Mechanism::EcdsaSha256, private, b"among many").expect("signs");
        session.verify(&Mechanism::EcdsaSha256, public, b"among many", &signature).expect("verifies");
        // As OpenSC and Java do: one at a time.
        let raw = Raw::load(&module::path());
        assert_eq!(raw.find_init(session.handle()), 0);
        let mut found = Vec::new();
        while let Some(handle) = raw.find_next(session.handle()).expect("C_FindObjects") {
            found.push(handle);
        }
        assert_eq!(raw.find_final(session.handle()), 0);
        found.dedup();
        assert_eq!(found.len(), OBJECTS + 2, "everything, once");
    }
}
