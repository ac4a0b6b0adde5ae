//! Message digests (PKCS#11 v3.0 §5.10), against FIPS 180-4's well-known digests of "abc".

use std::process::Command;

use acceptance::module::Token;
use acceptance::raw::{Raw, Room};
use acceptance::tools::{available, run_with_input};
use acceptance::{module, module_test};
use cryptoki::mechanism::Mechanism;
use cryptoki_sys::*;
use data_encoding::HEXLOWER;

const ABC: [(Mechanism, &str); 3] = [
    (Mechanism::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        Mechanism::Sha384,
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        Mechanism::Sha512,
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
];

module_test! {
    fn digests_are_those_of_the_standard_in_one_part_and_in_many(_world) {
        let token = Token::open();
        let session = token.session();
        for (mechanism, expected) in ABC {
            assert_eq!(HEXLOWER.encode(&session.digest(&mechanism, b"abc").expect("digest")), expected);
            session.digest_init(&mechanism).expect("init");
            for part in [&b"a"[..], b"", b"bc"] {
                session.digest_update(part).expect("update");
            }
            assert_eq!(HEXLOWER.encode(&session.digest_final().expect("final")), expected);
        }
    }
}

/// Mechanism, and how openssl calls the same digest.
const NAMES: [(CK_MECHANISM_TYPE, &str); 11] = [
    (CKM_SHA_1, "-sha1"),
    (CKM_SHA224, "-sha224"),
    (CKM_SHA256, "-sha256"),
    (CKM_SHA384, "-sha384"),
    (CKM_SHA512, "-sha512"),
    (CKM_SHA512_224, "-sha512-224"),
    (CKM_SHA512_256, "-sha512-256"),
    (CKM_SHA3_224, "-sha3-224"),
    (CKM_SHA3_256, "-sha3-256"),
    (CKM_SHA3_384, "-sha3-384"),
    (CKM_SHA3_512, "-sha3-512"),
];

module_test! {
    fn every_listed_digest_is_the_one_that_openssl_makes(_world) {
        if !available("digest::every_listed_digest_is_the_one_that_openssl_makes", "openssl") {
            return;
        }
        let token = Token::open();
        let session = token.session();
        let raw = Raw::load(&module::path());
        let data = vec![0x61; 1000];
        for number in raw.mechanisms(token.slot.id()).expect("the list") {
            if raw.mechanism_flags(token.slot.id(), number).expect("the info") & CKF_DIGEST == 0 {
                continue;
            }
            let row = NAMES.iter().find(|row| row.0 == number);
            let (_, name) = row.unwrap_or_else(|| panic!("{number:#x} is listed for digests and has no row here"));
            assert_eq!(raw.digest_init(session.handle(), number), CKR_OK, "{name}");
            let digest = raw.digest(session.handle(), &data, Room::Bytes(64));
            assert_eq!(digest.rv, CKR_OK, "{name}");
            let expected = run_with_input(Command::new("openssl").args(["dgst", name, "-binary"]), &data).ok().stdout;
            assert_eq!(digest.bytes, expected, "{name}");
        }
    }
}

module_test! {
    fn a_size_query_and_a_small_buffer_keep_the_operation(_world) {
        let token = Token::open();
        let session = token.session();
        let raw = Raw::load(&module::path());
        assert_eq!(raw.digest_init(session.handle(), CKM_SHA256), CKR_OK);
        let query = raw.digest(session.handle(), b"abc", Room::Query);
        assert_eq!((query.rv, query.len), (CKR_OK, 32));
        let small = raw.digest(session.handle(), b"abc", Room::Bytes(31));
        assert_eq!((small.rv, small.len), (CKR_BUFFER_TOO_SMALL, 32));
        let digest = raw.digest(session.handle(), b"abc", Room::Bytes(32));
        assert_eq!((digest.rv, HEXLOWER.encode(&digest.bytes).as_str()), (CKR_OK, ABC[0].1));
        assert_eq!(raw.digest(session.handle(), b"abc", Room::Bytes(32)).rv, CKR_OPERATION_NOT_INITIALIZED);
    }
}
