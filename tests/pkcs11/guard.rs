//! Keys with an issuance policy (docs/guard.md): a process of the authority that was taken over holds the session and the key's handle,
//! and mints nothing outside the policy; and the token counts what it signed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use acceptance::module::{ED25519, P256, P384};
use acceptance::module_test;
use acceptance::raw::call::Parameter;
use acceptance::raw::key::{Call, Template, Use, flag, number};
use acceptance::raw::{Raw, Room};
use acceptance::tbs::{self, Certificate, bound, day, extension, long_day, name, policy, seq, tlv};
use acceptance::world::PIN;
use cryptoki_sys::*;

const POLICY: CK_ATTRIBUTE_TYPE = 0xC352_0001;
const COUNT: CK_ATTRIBUTE_TYPE = 0xC352_0002;
const ISSUER: &str = "Issuing CA";
const END_ENTITY: u8 = 1;
const AUTHORITY: u8 = 2;
const OWN: u8 = 4;
const CRL: u8 = 8;
const OCSP: u8 = 16;
const REQUEST: u8 = 32;

struct Place {
    raw: Raw,
    slot: CK_SLOT_ID,
    session: CK_SESSION_HANDLE,
}

/// A guarded pair.
struct Pair {
    public: CK_OBJECT_HANDLE,
    private: CK_OBJECT_HANDLE,
}

impl Place {
    fn open() -> Place {
        let (raw, slot, session) = Raw::with_user();
        Place { raw, slot, session }
    }

    /// After a restart of the daemon.
    fn again(&mut self) {
        self.session = self.raw.open_session(self.slot).expect("a session");
        assert_eq!(self.raw.login(self.session, PIN), CKR_OK);
    }

    fn make(&self, mechanism: CK_MECHANISM_TYPE, domain: Template, private: Template) -> Result<Pair, CK_RV> {
        let public = [domain, vec![(CKA_TOKEN, flag(true)), (CKA_VERIFY, flag(true))]].concat();
        let call = Call::plain(mechanism);
        let (public, private) = self.raw.generate_pair(self.session, &call, &public, &private)?;
        Ok(Pair { public, private })
    }

    fn p256(&self, policy: Vec<u8>) -> Pair {
        let domain = vec![(CKA_EC_PARAMS, P256.to_vec())];
        self.make(CKM_EC_KEY_PAIR_GEN, domain, guarded(policy)).expect("a guarded pair")
    }

    fn sign(&self, key: &Pair, message: &[u8]) -> Result<Vec<u8>, CK_RV> {
        self.raw.apply(self.session, Use::Sign, &Call::plain(CKM_ECDSA_SHA256), key.private, message)
    }

    fn count(&self, key: &Pair) -> u64 {
        let value = self.raw.get(self.session, key.private, COUNT).expect("a count");
        CK_ULONG::from_ne_bytes(value.try_into().expect("a CK_ULONG"))
    }
}

fn guarded(policy: Vec<u8>) -> Template {
    vec![(CKA_TOKEN, flag(true)), (POLICY, policy)]
}

/// What an issuing authority needs: 90 days, until 2040, with the extensions named here.
fn issuing() -> Vec<u8> {
    let listed = [0x0e, 0x0f, 0x11, 0x13, 0x1f, 0x23, 0x25].map(|id| vec![6, 3, 0x55, 0x1d, id]).concat();
    policy(
        END_ENTITY | CRL | OCSP,
        &[
            &bound(0, &name(ISSUER)),
            &bound(2, &[2, 1, 90]),
            &bound(3, &long_day("20400101")),
            &bound(4, &seq(&[&listed])),
            &bound(5, &[2, 1, 8]),
        ],
    )
}

fn device(change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
    let mut certificate = Certificate::device(ISSUER);
    change(&mut certificate);
    certificate.der()
}

fn crl(next_update: &str) -> Vec<u8> {
    tbs::crl(ISSUER, tbs::ECDSA_SHA256, &day(next_update), &tbs::revoked())
}

fn ocsp(next_update: &[u8]) -> Vec<u8> {
    tbs::ocsp(&tlv(0xa2, &[&tlv(4, &[&[9; 20]])]), &[0x80, 0], next_update)
}

module_test! {
    fn a_guarded_key_signs_what_its_policy_allows_and_counts_it(_world) {
        let place = Place::open();
        let key = place.p256(issuing());
        let good = [device(|_| ()), device(|c| c.extensions.clear()), crl("270108"), ocsp(&bound(0, &long_day("20270108")))];
        assert_eq!(place.count(&key), 0);
        for (made, message) in good.iter().enumerate() {
            let signature = place.sign(&key, message).unwrap_or_else(|rv| panic!("{made}: {rv:#x}"));
            assert_eq!(place.raw.verify_init_with(place.session, CKM_ECDSA_SHA256, &[], key.public), CKR_OK);
            assert_eq!(place.raw.verify(place.session, message, &signature), CKR_OK, "{made}");
        }
        // A query of the length and a short buffer sign nothing; pieces are one message.
        assert_eq!(place.raw.sign_init(place.session, CKM_ECDSA_SHA256, key.private), CKR_OK);
        assert_eq!(place.raw.sign(place.session, &good[0], Room::Query).rv, CKR_OK);
        assert_eq!(place.raw.sign(place.session, &good[0], Room::Bytes(10)).rv, CKR_BUFFER_TOO_SMALL);
        assert_eq!(place.count(&key), 4);
        let (head, tail) = good[0].split_at(40);
        assert_eq!(place.raw.sign_update(place.session, head), CKR_OK);
        assert_eq!(place.raw.sign_update(place.session, tail), CKR_OK);
        assert_eq!(place.raw.sign_final(place.session, Room::Bytes(64)).rv, CKR_OK);
        assert_eq!(place.count(&key), 5);
        // Another key is not counted.
        let domain = vec![(CKA_EC_PARAMS, P256.to_vec())];
        let free = place.make(CKM_EC_KEY_PAIR_GEN, domain, vec![(CKA_TOKEN, flag(true))]).expect("a pair");
        assert_eq!(place.raw.get(place.session, free.private, COUNT), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    }
}

/// What somebody who took the authority's process over would like to have signed.
fn forgeries() -> Vec<(&'static str, Vec<u8>)> {
    let bad_list = [&day("270108")[..], &tlv(0x30, &[])].concat();
    vec![
        ("an authority", device(|c| c.extensions.push(tbs::authority(&[])))),
        ("an authority of path length 0", device(|c| c.extensions.push(tbs::authority(&[2, 1, 0])))),
        ("a signer of certificates", device(|c| c.extensions = vec![tbs::key_usage(0x84)])),
        ("a signer of CRLs", device(|c| c.extensions = vec![tbs::key_usage(0x02)])),
        (
            "a path length without an authority",
            device(|c| c.extensions.push(extension(0x13, &[], &seq(&[&[2, 1, 0]])))),
        ),
        ("another issuer", device(|c| c.issuer = name("Other CA"))),
        ("another algorithm", device(|c| c.algorithm[11] = 3)),
        ("a serial of 21 octets", device(|c| c.serial = tlv(2, &[&[1; 21]]))),
        ("a negative serial", device(|c| c.serial = tlv(2, &[&[0x80, 1]]))),
        ("serial zero", device(|c| c.serial = tlv(2, &[&[0]]))),
        ("91 days", device(|c| c.to = day("270402"))),
        ("until 2041", device(|c| (c.from, c.to) = (day("401231"), day("410101")))),
        ("for ever", device(|c| c.to = tlv(0x18, &[b"99991231235959Z"]))),
        ("an end before its begin", device(|c| c.to = day("261231"))),
        ("no such day", device(|c| c.to = day("270230"))),
        ("name constraints", device(|c| c.extensions.push(extension(0x1e, &[], &seq(&[]))))),
        ("an extension twice", device(|c| c.extensions.push(tbs::key_usage(0x80)))),
        ("an unknown critical extension", device(|c| c.extensions.push(extension(0x77, tbs::TRUE, &[5, 0])))),
        ("unique identifiers", device(|c| c.spki.extend([0x81, 2, 0, 1]))),
        ("something after the extensions", device(|c| c.more = vec![5, 0])),
        ("version 1", device(|c| c.version.clear())),
        ("version 2", device(|c| c.version[4] = 1)),
        ("bytes after it", [device(|_| ()), vec![0]].concat()),
        ("a length not in its shortest form", {
            let whole = device(|_| ());
            [&[0x30, 0x83, 0], &whole[2..]].concat()
        }),
        ("a default value written out", device(|c| c.extensions = vec![extension(0x0f, &[1, 1, 0], &[3, 2, 7, 0x80])])),
        ("half of it", {
            let whole = device(|_| ());
            whole[..whole.len() / 2].to_vec()
        }),
        ("a digest", vec![7; 32]),
        ("text", b"I owe you one million".to_vec()),
        ("nothing", vec![]),
        ("a request", tbs::request(ISSUER, &Certificate::device(ISSUER).spki)),
        ("a CRL of another", tbs::crl("Other CA", tbs::ECDSA_SHA256, &day("270108"), &[])),
        ("a CRL for ever", crl("280101")),
        ("a CRL without its next", tbs::crl(ISSUER, tbs::ECDSA_SHA256, &[], &[])),
        ("a CRL with an empty list", tbs::crl(ISSUER, tbs::ECDSA_SHA256, &bad_list, &[])),
        ("an OCSP answer for ever", ocsp(&[])),
        ("an OCSP answer for a year", ocsp(&bound(0, &long_day("20280101")))),
        (
            "an OCSP answer of another",
            tbs::ocsp(&tlv(0xa1, &[&name("Other CA")]), &[0x80, 0], &bound(0, &long_day("20270102"))),
        ),
        (
            "an OCSP answer of no status",
            tbs::ocsp(&tlv(0xa2, &[&tlv(4, &[&[9; 20]])]), &[0x83, 0], &bound(0, &long_day("20270102"))),
        ),
    ]
}

module_test! {
    fn who_takes_the_process_over_mints_nothing_outside_the_policy(world) {
        let place = Place::open();
        let key = place.p256(issuing());
        for (what, message) in forgeries() {
            assert_eq!(place.sign(&key, &message), Err(CKR_FUNCTION_REJECTED), "{what}");
        }
        let whole = device(|c| c.extensions.push(tbs::authority(&[])));
        assert_eq!(place.raw.sign_init(place.session, CKM_ECDSA_SHA256, key.private), CKR_OK);
        assert_eq!(place.raw.sign_update(place.session, &whole[..9]), CKR_OK);
        assert_eq!(place.raw.sign_update(place.session, &whole[9..]), CKR_OK);
        assert_eq!(place.raw.sign_final(place.session, Room::Bytes(64)).rv, CKR_FUNCTION_REJECTED);
        assert_eq!(place.count(&key), 0, "a refusal is no signature");
        let log = std::fs::read_to_string(world.log()).expect("a log");
        for rule in ["(kind)", "(issuer)", "(days)", "(not_after)", "(extension)", "(encoding)", "(status_days)"] {
            assert!(log.contains(rule), "the log does not say {rule}");
        }
    }
}

module_test! {
    fn a_guarded_key_does_nothing_but_sign_whole_messages(_world) {
        let place = Place::open();
        let key = place.p256(issuing());
        for mechanism in [CKM_ECDSA, CKM_ECDSA_SHA1, CKM_ECDSA_SHA224, CKM_ECDSA_SHA3_256] {
            let begun = place.raw.apply(place.session, Use::Sign, &Call::plain(mechanism), key.private, &[7; 28]);
            assert_eq!(begun, Err(CKR_MECHANISM_INVALID), "{mechanism:#x}");
        }
        let other = place.raw.get(place.session, key.public, CKA_EC_POINT).expect("a point");
        let agreement = Call { mechanism: CKM_ECDH1_DERIVE, parameter: acceptance::raw::key::Parameter::Ecdh(CKD_NULL, other) };
        let child = vec![(CKA_CLASS, number(CKO_SECRET_KEY)), (CKA_KEY_TYPE, number(CKK_AES)), (CKA_VALUE_LEN, number(32u64))];
        let derived = place.raw.derive(place.session, &agreement, key.private, &child);
        assert_eq!(derived, Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
        let rsa = vec![(CKA_MODULUS_BITS, number(2048u64))];
        let rsa = place.make(CKM_RSA_PKCS_KEY_PAIR_GEN, rsa, guarded(issuing())).expect("a pair");
        for mechanism in [CKM_RSA_PKCS, CKM_SHA224_RSA_PKCS, CKM_SHA3_256_RSA_PKCS] {
            let begun = place.raw.apply(place.session, Use::Sign, &Call::plain(mechanism), rsa.private, &[7; 28]);
            assert_eq!(begun, Err(CKR_MECHANISM_INVALID), "{mechanism:#x}");
        }
        let begun = place.raw.apply(place.session, Use::Decrypt, &Call::plain(CKM_RSA_PKCS), rsa.private, &[7; 256]);
        assert_eq!(begun, Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
        // What a usage attribute says that somebody turns on later changes nothing.
        for usage in [CKA_DECRYPT, CKA_UNWRAP, CKA_SIGN_RECOVER] {
            let set = place.raw.set(place.session, rsa.private, &vec![(usage, flag(true))]);
            assert_eq!(set, CKR_ATTRIBUTE_READ_ONLY, "{usage:#x}");
        }
    }
}

module_test! {
    fn a_policy_is_given_once_and_stays(_world) {
        let place = Place::open();
        let key = place.p256(issuing());
        assert_eq!(place.raw.get(place.session, key.private, POLICY), Ok(issuing()));
        let other = policy(63, &[]);
        for change in [(POLICY, other.clone()), (POLICY, vec![]), (COUNT, number(0u64)), (CKA_EXTRACTABLE, flag(true)), (CKA_COPYABLE, flag(true))] {
            let kind = change.0;
            assert_eq!(place.raw.set(place.session, key.private, &vec![change]), CKR_ATTRIBUTE_READ_ONLY, "{kind:#x}");
        }
        assert_eq!(place.raw.copy(place.session, key.private, &vec![]), Err(CKR_ACTION_PROHIBITED));
        // Nothing but a generation gives a policy, and no template weakens what it means.
        let domain = || vec![(CKA_EC_PARAMS, P256.to_vec())];
        for weaker in [(CKA_EXTRACTABLE, true), (CKA_SENSITIVE, false), (CKA_COPYABLE, true), (CKA_TOKEN, false), (CKA_DERIVE, true), (CKA_SIGN, false)] {
            let mut template = vec![(POLICY, issuing()), (weaker.0, flag(weaker.1))];
            if weaker.0 != CKA_TOKEN {
                template.push((CKA_TOKEN, flag(true)));
            }
            let made = place.make(CKM_EC_KEY_PAIR_GEN, domain(), template).map(|pair| pair.private);
            assert_eq!(made, Err(CKR_TEMPLATE_INCONSISTENT), "{:#x}", weaker.0);
        }
        for broken in [vec![], vec![0x30, 0], policy(64, &[]), policy(1, &[&bound(9, &[5, 0])])] {
            let made = place.make(CKM_EC_KEY_PAIR_GEN, domain(), guarded(broken)).map(|pair| pair.private);
            assert_eq!(made, Err(CKR_ATTRIBUTE_VALUE_INVALID));
        }
        let imported: Template = vec![
            (CKA_CLASS, number(CKO_PRIVATE_KEY)),
            (CKA_KEY_TYPE, number(CKK_EC)),
            (CKA_TOKEN, flag(true)),
            (CKA_EC_PARAMS, P256.to_vec()),
            (CKA_VALUE, vec![5; 32]),
            (POLICY, issuing()),
        ];
        assert_eq!(place.raw.create(place.session, &imported), Err(CKR_ATTRIBUTE_READ_ONLY));
        let wrapping = vec![(CKA_TOKEN, flag(false)), (CKA_VALUE_LEN, number(32u64)), (CKA_WRAP, flag(true)), (CKA_UNWRAP, flag(true)), (CKA_ENCRYPT, flag(false)), (CKA_DECRYPT, flag(false))];
        let wrapping = place.raw.generate(place.session, &Call::plain(CKM_AES_KEY_GEN), &wrapping).expect("a key");
        let wrapped = place.raw.wrap(place.session, &Call::plain(CKM_AES_KEY_WRAP_KWP), wrapping, key.private);
        assert_eq!(wrapped, Err(CKR_KEY_UNEXTRACTABLE));
    }
}

module_test! {
    fn a_root_signs_authorities_within_its_path_length_and_itself(_world) {
        let place = Place::open();
        let key = place.p256(policy(AUTHORITY | OWN | CRL | REQUEST, &[&bound(0, &name(ISSUER)), &bound(1, &[2, 1, 1])]));
        let spki = place.raw.get(place.session, key.public, CKA_PUBLIC_KEY_INFO).expect("an SPKI");
        let of = |path: &'static [u8]| device(|c| c.extensions = vec![tbs::authority(path), tbs::key_usage(0x06)]);
        let own = |c: &mut Certificate| {
            c.subject = name(ISSUER);
            c.spki = spki.clone();
            c.extensions = vec![tbs::authority(&[])];
        };
        let rows = [
            ("a path length of 1", of(&[2, 1, 1]), true),
            ("a path length of 0", of(&[2, 1, 0]), true),
            ("a path length of 2", of(&[2, 1, 2]), false),
            ("no path length", of(&[]), false),
            ("a device", device(|_| ()), false),
            ("itself", device(own), true),
            ("itself by another name", device(|c| { own(c); c.subject = name("Other") }), false),
            ("another key by its own name", device(|c| { own(c); c.spki = Certificate::device(ISSUER).spki }), false),
            ("its own request", tbs::request(ISSUER, &spki), true),
            ("its own request by another name", tbs::request("Other", &spki), false),
            ("another key's request", tbs::request(ISSUER, &Certificate::device(ISSUER).spki), false),
            ("an OCSP answer", ocsp(&[]), false),
        ];
        for (what, message, allowed) in rows {
            let rv = place.sign(&key, &message).map_or_else(|rv| rv, |_| CKR_OK);
            assert_eq!(rv, if allowed { CKR_OK } else { CKR_FUNCTION_REJECTED }, "{what}");
        }
    }
}

/// A certificate for these purposes and DNS names, each in DER.
fn named(purposes: &[&[u8]], names: &[&[u8]]) -> Vec<u8> {
    device(|c| {
        c.extensions = vec![tbs::key_usage(0x80)];
        if !purposes.is_empty() {
            c.extensions.push(extension(0x25, &[], &seq(purposes)));
        }
        if !names.is_empty() {
            c.extensions.push(extension(0x11, &[], &seq(names)));
        }
    })
}

module_test! {
    fn purposes_and_dns_names_stay_within_the_policy(_world) {
        const CLIENT: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
        const SERVER: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        const ANY: &[u8] = &[6, 4, 0x55, 0x1d, 0x25, 0];
        let place = Place::open();
        let trees = [tlv(0x16, &[b"devices.example"]), tlv(0x16, &[b"host"])].concat();
        let key = place.p256(policy(END_ENTITY, &[&bound(6, &seq(&[CLIENT])), &bound(7, &seq(&[&trees]))]));
        let dns = |name: &str| tlv(0x82, &[name.as_bytes()]);
        let address = tlv(0x87, &[&[10, 0, 0, 1]]);
        let rows: Vec<(&str, Vec<u8>, bool)> = vec![
            ("the purpose", named(&[CLIENT], &[]), true),
            ("another purpose", named(&[SERVER], &[]), false),
            ("both", named(&[CLIENT, SERVER], &[]), false),
            ("any purpose", named(&[ANY], &[]), false),
            ("no purpose", named(&[], &[]), false),
            ("an empty list of purposes", device(|c| c.extensions.push(extension(0x25, &[], &seq(&[])))), false),
            ("a name below the tree", named(&[CLIENT], &[&dns("a.devices.example")]), true),
            ("in capitals", named(&[CLIENT], &[&dns("A.Devices.EXAMPLE")]), true),
            ("the tree itself", named(&[CLIENT], &[&dns("host")]), true),
            ("an address beside it", named(&[CLIENT], &[&dns("b.host"), &address]), true),
            ("a name that only ends so", named(&[CLIENT], &[&dns("evildevices.example")]), false),
            ("a part of the tree", named(&[CLIENT], &[&dns("example")]), false),
            ("one of two", named(&[CLIENT], &[&dns("a.devices.example"), &dns("www.bank.example")]), false),
            ("names that are no list", device(|c| c.extensions.push(extension(0x11, &[], &dns("host")))), false),
        ];
        for (what, message, allowed) in rows {
            let rv = place.sign(&key, &message).map_or_else(|rv| rv, |_| CKR_OK);
            assert_eq!(rv, if allowed { CKR_OK } else { CKR_FUNCTION_REJECTED }, "{what}");
        }
    }
}

module_test! {
    fn a_responders_key_signs_ocsp_answers_and_nothing_else_and_counts_nothing(_world) {
        let place = Place::open();
        let key = place.p256(policy(OCSP, &[&bound(0, &name(ISSUER)), &bound(5, &[2, 1, 8])]));
        place.sign(&key, &ocsp(&bound(0, &long_day("20270108")))).expect("an answer");
        for (what, message) in [
            ("an answer for too long", ocsp(&bound(0, &long_day("20270110")))),
            ("a certificate", device(|_| ())),
            ("a CRL", crl("270108")),
            ("a request", tbs::request(ISSUER, &Certificate::device(ISSUER).spki)),
            ("text", b"I owe you one million".to_vec()),
        ] {
            assert_eq!(place.sign(&key, &message), Err(CKR_FUNCTION_REJECTED), "{what}");
        }
        // There is nothing to account for, and a count would make every answer wait for the disk.
        assert_eq!(place.raw.get(place.session, key.private, COUNT), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    }
}

/// AlgorithmIdentifier of RSASSA-PSS with SHA-256 and a salt of 32 octets; the parameters of the hash are NULL.
fn pss() -> Vec<u8> {
    let sha256 = [0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
    let mgf1 = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
    let params = seq(&[&tlv(0xa0, &[&sha256]), &tlv(0xa1, &[&seq(&[&mgf1, &sha256])]), &tlv(0xa2, &[&[2, 1, 32]])]);
    seq(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a], &params])
}

module_test! {
    fn every_algorithm_of_certificates_is_named_as_it_is(_world) {
        let place = Place::open();
        let make = |mechanism, domain| place.make(mechanism, vec![domain], guarded(policy(END_ENTITY, &[]))).expect("a pair").private;
        let p384 = make(CKM_EC_KEY_PAIR_GEN, (CKA_EC_PARAMS, P384.to_vec()));
        let edwards = make(CKM_EC_EDWARDS_KEY_PAIR_GEN, (CKA_EC_PARAMS, ED25519.to_vec()));
        let rsa = make(CKM_RSA_PKCS_KEY_PAIR_GEN, (CKA_MODULUS_BITS, number(2048u64)));
        let ml_dsa = make(CKM_ML_DSA_KEY_PAIR_GEN, (CKA_PARAMETER_SET, number(CKP_ML_DSA_44)));
        let nothing = Parameter::none;
        let pss_words = || Parameter::words(&[CKM_SHA256, CKG_MGF1_SHA256, 32]);
        let rsa_sha256 = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0].to_vec();
        let rows = [
            (p384, CKM_ECDSA_SHA384, nothing(), [0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3].to_vec()),
            (edwards, CKM_EDDSA, nothing(), vec![0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
            (rsa, CKM_SHA256_RSA_PKCS, nothing(), rsa_sha256),
            (rsa, CKM_SHA256_RSA_PKCS_PSS, pss_words(), pss()),
            (ml_dsa, CKM_ML_DSA, nothing(), [0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 0x11].to_vec()),
        ];
        let names: Vec<Vec<u8>> = rows.iter().map(|row| row.3.clone()).collect();
        for (key, mechanism, parameter, own) in rows {
            let signed = place.raw.sign_once(place.session, mechanism, parameter, key, &device(|c| c.algorithm = own.clone()));
            assert_eq!(signed.rv, CKR_OK, "{mechanism:#x}");
            for other in names.iter().filter(|other| **other != own && mechanism != CKM_SHA256_RSA_PKCS_PSS) {
                let signed = place.raw.sign_once(place.session, mechanism, nothing(), key, &device(|c| c.algorithm = other.clone()));
                assert_eq!(signed.rv, CKR_FUNCTION_REJECTED, "{mechanism:#x}");
            }
        }
    }
}

module_test! {
    fn the_count_is_exact_over_threads_and_kill_9(world) {
        let mut place = Place::open();
        let key = place.p256(issuing());
        let message = device(|_| ());
        for _ in 0..5 {
            place.sign(&key, &message).expect("signed");
        }
        world.crash_and_restart();
        place.again();
        assert_eq!(place.count(&key), 5);
        let raw = Arc::new(place.raw);
        let (slot, private) = (place.slot, key.private);
        let given = Arc::new(AtomicU64::new(5));
        let sign_on = |rounds: u32| {
            let (raw, given, message) = (Arc::clone(&raw), Arc::clone(&given), message.clone());
            thread::spawn(move || {
                let Ok(session) = raw.open_session(slot) else { return };
                for _ in 0..rounds {
                    let signed = raw.apply(session, Use::Sign, &Call::plain(CKM_ECDSA_SHA256), private, &message);
                    if signed.is_err() {
                        return;
                    }
                    given.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads: Vec<_> = (0..4).map(|_| sign_on(20)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("joined"));
        assert_eq!(given.load(Ordering::SeqCst), 85);
        // Four threads sign until the daemon is killed under them: what was given out is counted, and at most one more for each.
        let threads: Vec<_> = (0..4).map(|_| sign_on(u32::MAX)).collect();
        while given.load(Ordering::SeqCst) < 120 {
            thread::yield_now();
        }
        world.crash_and_restart();
        threads.into_iter().for_each(|thread| thread.join().expect("joined"));
        let session = raw.open_session(slot).expect("a session");
        assert_eq!(raw.login(session, PIN), CKR_OK);
        let counted = raw.get(session, private, COUNT).expect("a count");
        let counted = CK_ULONG::from_ne_bytes(counted.try_into().expect("a CK_ULONG"));
        let given = given.load(Ordering::SeqCst);
        assert!((given..=given + 4).contains(&counted), "{given} were given out and {counted} counted");
    }
}
