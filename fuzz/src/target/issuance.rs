//! The guard of certification authorities: messages that are judged against issuance policies, and policies themselves. What is allowed
//! keeps to the policy in the eyes of another decoder.

use std::sync::LazyLock;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use hsm_core::issuance::{self, Policy, Signer, Structure};
use x509_cert::TbsCertificate;
use x509_cert::crl::TbsCertList;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use crate::feedback;
use crate::input::Input;

/// The Name of the only issuer: the common name "Issuing CA".
const ISSUER: &[u8] = b"\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0aIssuing CA";
/// The AlgorithmIdentifier of ECDSA with SHA-256.
const ALGORITHM: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// The signer's own key; no corpus has its value by chance.
const SPKI: &[u8] = &[0x30, 6, 0x30, 0, 3, 2, 0, 0x5a];
/// Days and the last day (2040-01-01) of the bounded policies.
const DAYS: u8 = 90;
const NOT_AFTER: u64 = 2_208_988_800;

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = u8::try_from(contents.len()).expect("short");
    let head: &[u8] = if len < 0x80 { &[tag, len] } else { &[tag, 0x81, len] };
    [head, contents].concat()
}

/// The purpose of the policy that names one: id-kp-clientAuth; and its tree of DNS names.
const PURPOSE: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const TREE: &str = "example";

/// Everything; devices only; authorities of path length 0 at most; statements about status; devices of one purpose in one tree of names.
static POLICIES: LazyLock<[Policy; 5]> = LazyLock::new(|| {
    let bounds = [tlv(0xa2, &[2, 1, DAYS]), tlv(0xa3, &tlv(0x18, b"20400101000000Z"))].concat();
    let issuer = tlv(0xa0, ISSUER);
    let rows = [
        (63, Vec::new()),
        (1, [issuer.clone(), bounds.clone()].concat()),
        (7, [issuer.clone(), tlv(0xa1, &[2, 1, 0]), bounds].concat()),
        (56, [issuer, tlv(0xa5, &[2, 1, 8])].concat()),
        (1, [tlv(0xa6, &tlv(0x30, PURPOSE)), tlv(0xa7, &tlv(0x30, &tlv(0x16, TREE.as_bytes())))].concat()),
    ];
    rows.map(|(kinds, bounds)| {
        let policy = tlv(0x30, &[&[2, 1, 1, 2, 1, kinds], bounds.as_slice()].concat());
        Policy::read(&policy).expect("a policy")
    })
});

/// Plays an input: its first byte chooses the policy, or says that the rest is one.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    let message = input.rest();
    if way & 0x80 != 0 {
        match Policy::read(message) {
            Ok(_) => feedback::note(("policy", message.len())),
            Err(breach) => feedback::note((breach.rule, breach.what)),
        }
        return;
    }
    let number = if way & 7 == 5 { 4 } else { usize::from(way & 3) };
    let signer = Signer { algorithms: vec![ALGORITHM.to_vec()], spki: SPKI };
    match issuance::judge(&POLICIES[number], &signer, message) {
        Ok(structure) => {
            feedback::note((number, structure));
            examine(number, structure, message);
        }
        Err(breach) => feedback::note((number, breach.rule, breach.what)),
    }
}

/// Of a policy with a purpose and a tree of names.
fn examine_names(certificate: &TbsCertificate) {
    if let Ok(purposes) = certificate.get_extension::<ExtendedKeyUsage>() {
        let only = purposes.is_some_and(|(_, purposes)| purposes.0.iter().all(|purpose| *purpose == CLIENT_AUTH));
        assert!(only, "the one purpose");
    }
    let Ok(Some((_, names))) = certificate.get_extension::<SubjectAltName>() else { return };
    for name in &names.0 {
        if let GeneralName::DnsName(name) = name {
            let name = name.as_str().to_ascii_lowercase();
            assert!(name == TREE || name.ends_with(&format!(".{TREE}")), "a name in the tree");
        }
    }
}

/// The other decoder's opinion, where it has one.
fn examine(policy: usize, structure: Structure, message: &[u8]) {
    match structure {
        Structure::EndEntity | Structure::Authority => {
            let Ok(certificate) = TbsCertificate::from_der(message) else { return };
            let rank = certificate.get_extension::<BasicConstraints>();
            let Ok(rank) = rank else { return };
            let rank = rank.map(|(_, rank)| rank);
            if policy == 4 {
                examine_names(&certificate);
                return;
            }
            let is_authority = rank.as_ref().is_some_and(|rank| rank.ca);
            assert_eq!(is_authority, structure == Structure::Authority, "an authority is called one");
            assert!(policy == 0 || policy == 2 || !is_authority, "devices only");
            let length = rank.and_then(|rank| rank.path_len_constraint);
            assert!(policy != 2 || !is_authority || length == Some(0), "a path length of 0");
            if let Ok(Some((_, usage))) = certificate.get_extension::<KeyUsage>() {
                assert!(is_authority || !usage.key_cert_sign() && !usage.crl_sign(), "only authorities sign");
            }
            assert!(certificate.serial_number().as_bytes().len() <= 20, "a serial number");
            assert!(policy == 0 || certificate.issuer().to_der().is_ok_and(|der| der == ISSUER), "the issuer");
            let second = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
            let validity = certificate.validity();
            let (from, to) = (second(validity.not_before), second(validity.not_after));
            // That decoder knows no time before 1970.
            let fits = to <= NOT_AFTER && to.saturating_sub(from) <= u64::from(DAYS) * 86_400;
            assert!(policy == 0 || fits, "the validity");
        }
        Structure::Crl => {
            let Ok(list) = TbsCertList::<x509_cert::certificate::Rfc5280>::from_der(message) else { return };
            assert!(list.next_update.is_some(), "a CRL says when the next comes");
            assert!(policy == 0 || list.issuer.to_der().is_ok_and(|der| der == ISSUER), "the issuer");
        }
        Structure::Own | Structure::Ocsp | Structure::Request => {}
    }
}
