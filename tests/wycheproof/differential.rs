//! Our module and SoftHSM2 asked the same: random mechanisms, keys, lengths and parts. What is deterministic must be the same byte for
//! byte, whole in one module and in parts in the other; what is not is signed by one and verified by the other.
//!
//! Twenty seconds, or `DIFFERENTIAL_SECONDS`; the seed is printed and can be given back as `DIFFERENTIAL_SEED`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acceptance::raw::Raw;
use acceptance::raw::key::{Call, Parameter, Template, Use, flag, number};
use acceptance::world::PIN;
use acceptance::{control, module_test, tools};
use cryptoki_sys::*;

use crate::bench::Bench;

/// A generator that a printed number brings back (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % limit as u64).expect("it is below a usize")
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    /// Lengths near the edges of blocks and messages, more often than chance would give them.
    fn len(&mut self) -> usize {
        match self.below(4) {
            0 => self.below(5),
            1 => 16 * self.below(20) + [0, 1, 15][self.below(3)],
            2 => self.below(300),
            _ => self.below(5000),
        }
    }

    /// The data cut into parts, some of them empty.
    fn cut<'d>(&mut self, data: &'d [u8]) -> Vec<&'d [u8]> {
        let (mut rest, mut parts) = (data, Vec::new());
        while !rest.is_empty() {
            let at = match self.below(4) {
                0 => self.below(2),
                1 => 16.min(rest.len()),
                _ => self.below(rest.len()) + 1,
            };
            let (part, after) = rest.split_at(at.min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts
    }
}

/// What the parameter of a mechanism is made of.
#[derive(Clone, Copy)]
enum Made {
    Nothing,
    Iv,
    Counter,
    Gcm,
}

/// Use, mechanism, type and lengths of the key, parameter, and what the length of the data is a multiple of.
type Row = (Use, CK_MECHANISM_TYPE, CK_KEY_TYPE, &'static [usize], Made, usize);

const AES: &[usize] = &[16, 24, 32];
const MAC: &[usize] = &[64, 65, 100, 128];
const ROWS: [Row; 16] = [
    (Use::Encrypt, CKM_AES_ECB, CKK_AES, AES, Made::Nothing, 16),
    (Use::Encrypt, CKM_AES_CBC, CKK_AES, AES, Made::Iv, 16),
    (Use::Encrypt, CKM_AES_CBC_PAD, CKK_AES, AES, Made::Iv, 1),
    (Use::Encrypt, CKM_AES_CTR, CKK_AES, AES, Made::Counter, 1),
    (Use::Encrypt, CKM_AES_GCM, CKK_AES, AES, Made::Gcm, 1),
    (Use::Sign, CKM_AES_CMAC, CKK_AES, AES, Made::Nothing, 1),
    (Use::Sign, CKM_SHA_1_HMAC, CKK_GENERIC_SECRET, MAC, Made::Nothing, 1),
    (Use::Sign, CKM_SHA224_HMAC, CKK_GENERIC_SECRET, MAC, Made::Nothing, 1),
    (Use::Sign, CKM_SHA256_HMAC, CKK_GENERIC_SECRET, MAC, Made::Nothing, 1),
    (Use::Sign, CKM_SHA384_HMAC, CKK_GENERIC_SECRET, MAC, Made::Nothing, 1),
    (Use::Sign, CKM_SHA512_HMAC, CKK_GENERIC_SECRET, MAC, Made::Nothing, 1),
    (Use::Digest, CKM_SHA_1, CKK_GENERIC_SECRET, &[1], Made::Nothing, 1),
    (Use::Digest, CKM_SHA224, CKK_GENERIC_SECRET, &[1], Made::Nothing, 1),
    (Use::Digest, CKM_SHA256, CKK_GENERIC_SECRET, &[1], Made::Nothing, 1),
    (Use::Digest, CKM_SHA384, CKK_GENERIC_SECRET, &[1], Made::Nothing, 1),
    (Use::Digest, CKM_SHA512, CKK_GENERIC_SECRET, &[1], Made::Nothing, 1),
];

/// A module with a session of its user.
struct Side<'m> {
    raw: &'m Raw,
    session: CK_SESSION_HANDLE,
}

impl Side<'_> {
    fn secret(&self, key_type: CK_KEY_TYPE, value: &[u8]) -> CK_OBJECT_HANDLE {
        let uses: &[CK_ATTRIBUTE_TYPE] = match key_type {
            CKK_AES => &[CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN],
            _ => &[CKA_SIGN],
        };
        let mut template = session_object(CKO_SECRET_KEY, key_type);
        template.push((CKA_VALUE, value.to_vec()));
        template.extend(uses.iter().map(|kind| (*kind, flag(true))));
        self.raw
            .create(self.session, &template)
            .unwrap_or_else(|rv| panic!("a secret of {} bytes: {rv:#x}", value.len()))
    }

    /// Whole, or in parts.
    fn answer(
        &self,
        use_: Use,
        call: &Call,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        parts: Option<&[&[u8]]>,
    ) -> Result<Vec<u8>, CK_RV> {
        match parts {
            Some(parts) => self.raw.in_parts(self.session, use_, call, key, parts),
            None => self.raw.apply(self.session, use_, call, key, data),
        }
    }
}

fn session_object(class: CK_OBJECT_CLASS, key_type: CK_KEY_TYPE) -> Template {
    vec![
        (CKA_CLASS, number(class)),
        (CKA_KEY_TYPE, number(key_type)),
        (CKA_TOKEN, flag(false)),
        (CKA_PRIVATE, flag(false)),
    ]
}

module_test! {
    fn the_same_as_softhsm(world) {
        let Some(library) = tools::softhsm() else {
            return tools::skip("the_same_as_softhsm", "libsofthsm2.so not found");
        };
        let bench = Bench::new(world);
        let (control, slot) = control::softhsm(world, &library);
        let session = control.open_session(slot).expect("a session");
        assert_eq!(control.login(session, PIN), CKR_OK);
        let [ours, theirs] =
            [Side { raw: &bench.raw, session: bench.session }, Side { raw: &control, session }];
        let named = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        let seed = named("DIFFERENTIAL_SEED").unwrap_or_else(now);
        println!("\nDIFFERENTIAL_SEED={seed}");
        let mut dice = Dice(seed);
        let end = Instant::now() + Duration::from_secs(named("DIFFERENTIAL_SECONDS").unwrap_or(20));
        let mut rounds = 0;
        while Instant::now() < end || rounds < ROWS.len() * 3 {
            symmetric(&mut dice, &ours, &theirs, ROWS[rounds % ROWS.len()]);
            rounds += 1;
        }
        let crossed = signatures(&mut dice, &ours, &theirs);
        println!("\nTABLE differential: {rounds} rounds and {crossed} signatures against SoftHSM2, seed {seed}");
    }
}

/// One key, one message: both modules, whole and in parts; the ciphertext opened again by the other.
fn symmetric(dice: &mut Dice, ours: &Side<'_>, theirs: &Side<'_>, row: Row) {
    let (use_, mechanism, key_type, lens, made, multiple) = row;
    let value_len = lens[dice.below(lens.len())];
    let value = dice.bytes(value_len);
    let len = dice.len().next_multiple_of(multiple).max(1);
    let data = dice.bytes(len.next_multiple_of(multiple));
    let parameter = match made {
        Made::Nothing => Parameter::None,
        Made::Iv => Parameter::Bytes(dice.bytes(16)),
        // CK_AES_CTR_PARAMS: the bits of the counter, then the block, whose counter begins at nought.
        Made::Counter => Parameter::Bytes([number(32u64), dice.bytes(12), vec![0; 4]].concat()),
        Made::Gcm => Parameter::Gcm(dice.bytes(12), 128),
    };
    let call = Call { mechanism, parameter };
    let keys = [ours, theirs].map(|side| if use_ == Use::Digest { 0 } else { side.secret(key_type, &value) });
    let parts = dice.cut(&data);
    let what =
        format!("{use_:?} {mechanism:#x}, a key of {}, {} bytes in {} parts", value.len(), data.len(), parts.len());
    let expected = theirs.answer(use_, &call, keys[1], &data, None).unwrap_or_else(|rv| panic!("{what}: {rv:#x}"));
    for split in [None, Some(&parts[..])] {
        let got = ours.answer(use_, &call, keys[0], &data, split);
        assert!(got.as_ref() == Ok(&expected), "{what}, in parts: {}: {:x?}", split.is_some(), got.err());
    }
    if use_ == Use::Encrypt {
        let parts = dice.cut(&expected);
        for split in [None, Some(&parts[..])] {
            let opened = ours.answer(Use::Decrypt, &call, keys[0], &expected, split);
            assert!(opened.as_ref() == Ok(&data), "{what}: opened in parts: {}: {:x?}", split.is_some(), opened.err());
        }
    }
    if use_ != Use::Digest {
        for (side, key) in [ours, theirs].into_iter().zip(keys) {
            assert_eq!(side.raw.destroy(side.session, key), CKR_OK);
        }
    }
}

/// RSA and ECDSA: our key pair is taken along to the other module. PKCS#1 v1.5 gives the same signature; the others are verified
/// crosswise, and not of other data.
fn signatures(dice: &mut Dice, ours: &Side<'_>, theirs: &Side<'_>) -> usize {
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let rsa = (
        CKM_RSA_PKCS_KEY_PAIR_GEN,
        CKK_RSA,
        vec![(CKA_MODULUS_BITS, number(2048u64)), (CKA_PUBLIC_EXPONENT, vec![1, 0, 1])],
    );
    let ec = (CKM_EC_KEY_PAIR_GEN, CKK_EC, vec![(CKA_EC_PARAMS, p256)]);
    let pss = [CKM_SHA256, CK_ULONG::from(CKG_MGF1_SHA256), 32].map(number).concat();
    let mut crossed = 0;
    for (generate, key_type, public) in [rsa, ec] {
        let own = generate_pair(ours, generate, &public).expect("a key pair");
        let other = taken_along(ours, theirs, key_type, own);
        let calls = match key_type {
            CKK_RSA => vec![
                (Call::plain(CKM_RSA_PKCS), 20, true),
                (Call::plain(CKM_SHA256_RSA_PKCS), 0, true),
                (Call::plain(CKM_SHA512_RSA_PKCS), 0, true),
                (Call::with(CKM_SHA256_RSA_PKCS_PSS, &pss), 0, false),
            ],
            _ => vec![(Call::plain(CKM_ECDSA), 32, false)],
        };
        for _ in 0..5 {
            for (call, fixed, is_same) in &calls {
                let len = if *fixed == 0 { dice.len() + 1 } else { *fixed };
                let data = dice.bytes(len);
                let sign = |side: &Side<'_>, key| side.answer(Use::Sign, call, key, &data, None).expect("a signature");
                let signed = [sign(ours, own.1), sign(theirs, other.1)];
                assert!(!is_same || signed[0] == signed[1], "{:#x} of {len} bytes", call.mechanism);
                let mut altered = data.clone();
                altered[0] ^= 1;
                for (side, key, signature) in [(ours, own.0, &signed[1]), (theirs, other.0, &signed[0])] {
                    for (data, expected) in [(&data, CKR_OK), (&altered, CKR_SIGNATURE_INVALID)] {
                        assert_eq!(side.raw.begin(side.session, Use::Verify, call, key), CKR_OK);
                        let rv = side.raw.verify(side.session, data, signature);
                        assert_eq!(rv, expected, "{:#x} of {len} bytes", call.mechanism);
                    }
                }
                crossed += 2;
            }
        }
    }
    crossed
}

fn generate_pair(
    side: &Side<'_>,
    mechanism: CK_MECHANISM_TYPE,
    public: &Template,
) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
    let public = [vec![(CKA_TOKEN, flag(false)), (CKA_VERIFY, flag(true))], public.clone()].concat();
    let private = [(CKA_TOKEN, false), (CKA_SENSITIVE, false), (CKA_EXTRACTABLE, true), (CKA_SIGN, true)];
    let private: Template = private.into_iter().map(|(kind, value)| (kind, flag(value))).collect();
    side.raw.generate_pair(side.session, &Call::plain(mechanism), &public, &private)
}

/// The same pair in another module.
fn taken_along(
    from: &Side<'_>,
    to: &Side<'_>,
    key_type: CK_KEY_TYPE,
    (public, private): (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
    let (open, secret): (&[CK_ATTRIBUTE_TYPE], &[CK_ATTRIBUTE_TYPE]) = match key_type {
        CKK_RSA => (
            &[CKA_MODULUS, CKA_PUBLIC_EXPONENT],
            &[
                CKA_MODULUS,
                CKA_PUBLIC_EXPONENT,
                CKA_PRIVATE_EXPONENT,
                CKA_PRIME_1,
                CKA_PRIME_2,
                CKA_EXPONENT_1,
                CKA_EXPONENT_2,
                CKA_COEFFICIENT,
            ],
        ),
        _ => (&[CKA_EC_PARAMS, CKA_EC_POINT], &[CKA_EC_PARAMS, CKA_VALUE]),
    };
    let take = |class, handle, usage, kinds: &[CK_ATTRIBUTE_TYPE]| {
        let mut template = session_object(class, key_type);
        template.push((usage, flag(true)));
        for kind in kinds {
            template.push((*kind, from.raw.get(from.session, handle, *kind).expect("an attribute of a readable key")));
        }
        to.raw.create(to.session, &template).unwrap_or_else(|rv| panic!("a key of type {key_type:#x}: {rv:#x}"))
    };
    (take(CKO_PUBLIC_KEY, public, CKA_VERIFY, open), take(CKO_PRIVATE_KEY, private, CKA_SIGN, secret))
}
