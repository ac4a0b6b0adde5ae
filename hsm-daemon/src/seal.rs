//! The daemon's half of sealing (`seal.proto`): one-time keys of one connection, what is sealed to them, and replies sealed to a client's key.
//!
//! The private half of a key is wiped when a message has been opened with it, or not: it opens one, if any. A key belongs to the connection
//! that asked for it, so nobody else can use it, and it goes with the connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hsm_proto::secrecy::{REPLY, REQUEST, Sealable};
use hsm_proto::v1;
use parking_lot::Mutex;
use prost::Message;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey, HpkeSealer};
use zeroize::Zeroizing;

use crate::convert::Refusal;

/// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.
static SUITE: &dyn Hpke = DH_KEM_P256_HKDF_SHA256_AES_128;

/// The length of a public key.
const POINT: usize = 65;

/// How long a key waits for its message.
const KEPT: Duration = Duration::from_secs(60);

/// The most keys of one connection that wait: the oldest makes room. A client's threads want one each, and for a moment only.
const MOST: usize = 256;

/// The keys of one connection that have not been used.
#[derive(Default)]
pub(crate) struct SealKeys(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    last: u64,
    keys: VecDeque<Key>,
}

struct Key {
    number: u64,
    made: Instant,
    private: HpkePrivateKey,
}

impl Ring {
    fn forget_before(&mut self, now: Instant) {
        while self.keys.front().is_some_and(|key| now.saturating_duration_since(key.made) >= KEPT) {
            self.keys.pop_front();
        }
    }
}

impl SealKeys {
    /// A fresh key.
    ///
    /// # Errors
    /// CKR_DEVICE_ERROR: none could be made.
    pub(crate) fn give(&self) -> Result<v1::SealKeyReply, Refusal> {
        self.give_at(Instant::now())
    }

    fn give_at(&self, now: Instant) -> Result<v1::SealKeyReply, Refusal> {
        let (HpkePublicKey(public_key), private) = SUITE
            .generate_key_pair()
            .map_err(|_| Refusal::new(ck::rv::CKR_DEVICE_ERROR, "no sealing key could be made"))?;
        let mut ring = self.0.lock();
        ring.forget_before(now);
        if ring.keys.len() >= MOST {
            ring.keys.pop_front();
        }
        ring.last += 1;
        let number = ring.last;
        ring.keys.push_back(Key { number, made: now, private });
        Ok(v1::SealKeyReply { key: number, public_key })
    }

    /// The request of an exchange that may be sealed, or whose reply is to be.
    ///
    /// # Errors
    /// As [`SealKeys::open`]; CKR_ARGUMENTS_BAD for an exchange without a request, and for a key for the reply that is none.
    pub(crate) fn exchange(&self, exchange: v1::SealedExchange) -> Result<Opened, Refusal> {
        use v1::sealed_exchange::Request;
        let v1::SealedExchange { request, reply_key } = exchange;
        let reply = (!reply_key.is_empty()).then(|| ReplySeal::to(reply_key)).transpose()?;
        match request {
            Some(Request::Plain(request)) => Ok(Opened { request, was_sealed: false, reply }),
            Some(Request::Sealed(sealed)) => {
                Ok(Opened { request: self.open(&sealed, REQUEST)?, was_sealed: true, reply })
            }
            None => Err(Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, "the exchange has no request")),
        }
    }

    /// An operator's message: itself, or what is sealed in it.
    ///
    /// # Errors
    /// As [`SealKeys::open`]; CKR_ARGUMENTS_BAD for a sealed message in a sealed one.
    pub(crate) fn message<M: Sealable>(&self, mut message: M) -> Result<M, Refusal> {
        let Some(sealed) = message.sealed().take() else { return Ok(message) };
        let mut inner: M = self.open(&sealed, M::PURPOSE)?;
        if inner.sealed().is_some() {
            return Err(Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, "a sealed message is inside a sealed message"));
        }
        Ok(inner)
    }

    /// What was sealed to one of these keys, which is used up by that.
    ///
    /// # Errors
    /// CKR_ARGUMENTS_BAD: the key is not here (any more); CKR_ENCRYPTED_DATA_INVALID: the message does not open with it for this purpose.
    fn open<M: Message + Default>(&self, sealed: &v1::Sealed, purpose: &[u8]) -> Result<M, Refusal> {
        self.open_at(sealed, purpose, Instant::now())
    }

    fn open_at<M: Message + Default>(&self, sealed: &v1::Sealed, purpose: &[u8], now: Instant) -> Result<M, Refusal> {
        let key = {
            let mut ring = self.0.lock();
            ring.forget_before(now);
            let place = ring.keys.iter().position(|key| key.number == sealed.key);
            place.and_then(|place| ring.keys.remove(place))
        };
        let key = key.ok_or_else(|| {
            let sentence = "the sealing key is not one of this connection, was used already, or is older than a minute";
            Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, sentence)
        })?;
        let invalid = || Refusal::new(ck::rv::CKR_ENCRYPTED_DATA_INVALID, "the sealed message does not open");
        let (enc, aad) = (EncapsulatedSecret(sealed.enc.clone()), sealed.key.to_be_bytes());
        let text = SUITE.open(&enc, purpose, &aad, &sealed.ciphertext, &key.private).map_err(|_| invalid())?;
        M::decode(Zeroizing::new(text).as_slice()).map_err(|_| invalid())
    }
}

/// An exchange as it is carried out.
pub(crate) struct Opened {
    /// What is asked.
    pub(crate) request: v1::Request,
    /// Whether it came sealed.
    pub(crate) was_sealed: bool,
    /// What seals the reply.
    pub(crate) reply: Option<ReplySeal>,
}

/// What seals one reply to its client's key.
pub(crate) struct ReplySeal {
    enc: EncapsulatedSecret,
    sealer: Box<dyn HpkeSealer>,
}

impl ReplySeal {
    /// For a client's public key; made before the request is carried out, so that a key that is none changes nothing.
    ///
    /// # Errors
    /// CKR_ARGUMENTS_BAD: it is no key.
    fn to(public_key: Vec<u8>) -> Result<Self, Refusal> {
        let none = || Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, "the key that the reply is to be sealed to is none");
        // AWS-LC reads compressed points too, which the protocol does not have.
        if public_key.len() != POINT {
            return Err(none());
        }
        let (enc, sealer) = SUITE.setup_sealer(REPLY, &HpkePublicKey(public_key)).map_err(|_| none())?;
        Ok(ReplySeal { enc, sealer })
    }

    /// The reply as it was asked for: sealed if there is a seal.
    ///
    /// # Errors
    /// CKR_GENERAL_ERROR: a defect.
    pub(crate) fn close(seal: Option<Self>, reply: v1::Reply) -> Result<v1::SealedReply, Refusal> {
        use v1::sealed_reply::Reply;
        let reply = match seal {
            Some(seal) => Reply::Sealed(seal.seal(&reply)?),
            None => Reply::Plain(reply),
        };
        Ok(v1::SealedReply { reply: Some(reply) })
    }

    fn seal(mut self, reply: &v1::Reply) -> Result<v1::Sealed, Refusal> {
        let text = Zeroizing::new(reply.encode_to_vec());
        let ciphertext = self
            .sealer
            .seal(&[], &text)
            .map_err(|_| Refusal::new(ck::rv::CKR_GENERAL_ERROR, "the reply could not be sealed"))?;
        Ok(v1::Sealed { key: 0, enc: self.enc.0, ciphertext })
    }
}

#[cfg(test)]
mod tests {
    use hsm_proto::seal::{self, ReplyKey};
    use hsm_proto::v1::request::Op;

    use super::*;

    fn login() -> v1::Request {
        let login = v1::LoginRequest { session: 7, user: 1, pin: b"a PIN of the test".to_vec(), without_pin: false };
        v1::Request { op: Some(Op::Login(login)), number: 9 }
    }

    fn sealed(key: &v1::SealKeyReply) -> v1::Sealed {
        seal::seal(key, REQUEST, &login()).expect("seals")
    }

    impl SealKeys {
        fn opened(&self, sealed: &v1::Sealed) -> Result<v1::Request, Refusal> {
            self.open(sealed, REQUEST)
        }
    }

    fn rv(outcome: Result<v1::Request, Refusal>) -> ck::Rv {
        outcome.map_or_else(|Refusal(fault)| ck::Rv(fault.rv), |_| ck::rv::CKR_OK)
    }

    #[test]
    fn what_the_client_seals_the_daemon_opens_once() {
        let keys = SealKeys::default();
        let (first, second) = (keys.give().expect("a key"), keys.give().expect("a key"));
        for key in [second, first] {
            let sealed = sealed(&key);
            assert!(memchr_of(&sealed.ciphertext, b"a PIN of the test").is_none());
            assert_eq!(keys.opened(&sealed).expect("opens"), login());
            assert_eq!(rv(keys.opened(&sealed)), ck::rv::CKR_ARGUMENTS_BAD, "twice");
        }
    }

    fn memchr_of(text: &[u8], wanted: &[u8]) -> Option<usize> {
        text.windows(wanted.len()).position(|window| window == wanted)
    }

    type Damage = fn(&mut v1::Sealed);

    #[test]
    fn whatever_is_wrong_with_a_sealed_request_is_named_and_uses_the_key_up() {
        let (unknown, invalid) = (ck::rv::CKR_ARGUMENTS_BAD, ck::rv::CKR_ENCRYPTED_DATA_INVALID);
        let rows: [(&str, Damage, ck::Rv); 9] = [
            ("another number", |sealed| sealed.key += 1, unknown),
            ("number 0", |sealed| sealed.key = 0, unknown),
            ("a bit of the text", |sealed| sealed.ciphertext[3] ^= 1, invalid),
            ("a bit of the tag", |sealed| *sealed.ciphertext.last_mut().expect("a tag") ^= 0x80, invalid),
            ("the last byte is missing", |sealed| sealed.ciphertext.truncate(sealed.ciphertext.len() - 1), invalid),
            ("no text", |sealed| sealed.ciphertext.clear(), invalid),
            ("a bit of the point", |sealed| sealed.enc[9] ^= 4, invalid),
            ("half a point", |sealed| sealed.enc.truncate(33), invalid),
            ("no point", |sealed| sealed.enc.clear(), invalid),
        ];
        for (name, damage, expected) in rows {
            let keys = SealKeys::default();
            let good = sealed(&keys.give().expect("a key"));
            let mut bad = good.clone();
            damage(&mut bad);
            assert_eq!(rv(keys.opened(&bad)), expected, "{name}");
            let left = if expected == unknown { ck::rv::CKR_OK } else { unknown };
            assert_eq!(rv(keys.opened(&good)), left, "{name}, then the right one");
        }
    }

    #[test]
    fn a_key_is_of_its_connection_for_its_purpose_and_a_minute() {
        let (keys, others) = (SealKeys::default(), SealKeys::default());
        let key = keys.give().expect("a key");
        others.give().expect("a key");
        // The number is known there, the key is another.
        assert_eq!(rv(others.opened(&sealed(&key))), ck::rv::CKR_ENCRYPTED_DATA_INVALID);
        let elsewhere = seal::seal(&key, v1::ListKeysRequest::PURPOSE, &login()).expect("seals");
        assert_eq!(rv(keys.opened(&elsewhere)), ck::rv::CKR_ENCRYPTED_DATA_INVALID);
        let now = Instant::now();
        for (later, expected) in [(KEPT - Duration::from_millis(1), ck::rv::CKR_OK), (KEPT, ck::rv::CKR_ARGUMENTS_BAD)]
        {
            let sealed = sealed(&keys.give_at(now).expect("a key"));
            assert_eq!(rv(keys.open_at(&sealed, REQUEST, now + later)), expected, "{later:?}");
        }
        let not_a_request =
            seal::seal(&keys.give().expect("a key"), REQUEST, &v1::RandomReply { bytes: vec![0xff; 9] });
        assert_eq!(rv(keys.opened(&not_a_request.expect("seals"))), ck::rv::CKR_ENCRYPTED_DATA_INVALID);
    }

    #[test]
    fn keys_that_nobody_uses_make_room() {
        let keys = SealKeys::default();
        let first = keys.give().expect("a key");
        let second = keys.give().expect("a key");
        for _ in 1..MOST {
            keys.give().expect("a key");
        }
        assert_eq!(keys.0.lock().keys.len(), MOST);
        assert_eq!(rv(keys.opened(&sealed(&first))), ck::rv::CKR_ARGUMENTS_BAD);
        assert_eq!(rv(keys.opened(&sealed(&second))), ck::rv::CKR_OK);
    }

    #[test]
    fn an_operators_message_is_opened_once_and_not_twice() {
        let keys = SealKeys::default();
        let list = v1::ListKeysRequest { user_pin: b"1234".to_vec(), ..Default::default() };
        assert_eq!(keys.message(list.clone()).expect("plain"), list);
        let inner = seal::message(&keys.give().expect("a key"), &list).expect("seals");
        assert_eq!(keys.message(inner).expect("opens"), list);
        let inner = seal::message(&keys.give().expect("a key"), &list).expect("seals");
        let nested = seal::message(&keys.give().expect("a key"), &inner).expect("seals");
        let Refusal(fault) = keys.message(nested).expect_err("nested");
        assert_eq!(fault.rv, ck::rv::CKR_ARGUMENTS_BAD.0);
        // What stands beside the sealed form says nothing.
        let mut both = seal::message(&keys.give().expect("a key"), &list).expect("seals");
        both.user_pin = b"another".to_vec();
        assert_eq!(keys.message(both).expect("opens"), list);
        // One rpc's message is not another's.
        let pin = v1::RotateKeyRequest { user_pin: b"1234".to_vec(), ..Default::default() };
        let mut moved = seal::message(&keys.give().expect("a key"), &pin).expect("seals");
        let moved = v1::ListKeysRequest { sealed: moved.sealed().take(), ..Default::default() };
        let Refusal(fault) = keys.message(moved).expect_err("for another rpc");
        assert_eq!(fault.rv, ck::rv::CKR_ENCRYPTED_DATA_INVALID.0);
    }

    #[test]
    fn what_the_daemon_seals_the_client_opens() {
        use v1::sealed_reply::Reply;
        let random = v1::RandomReply { bytes: b"drawn by lot, but told".to_vec() };
        let reply = v1::Reply { generation: 3, result: Some(v1::reply::Result::Random(random)) };
        let key = ReplyKey::new().expect("random");
        let sealed = ReplySeal::to(key.public().to_vec()).and_then(|seal| seal.seal(&reply)).expect("seals");
        assert!(memchr_of(&sealed.ciphertext, b"drawn by lot").is_none());
        let other = v1::SealedReply { reply: Some(Reply::Sealed(sealed.clone())) };
        assert!(ReplyKey::new().expect("random").open(other).is_err());
        assert_eq!(key.open(v1::SealedReply { reply: Some(Reply::Sealed(sealed)) }), Ok(reply));
        for bad in [vec![], vec![4; 65], vec![2; 33]] {
            let Err(Refusal(fault)) = ReplySeal::to(bad) else { panic!("a key that is none") };
            assert_eq!(fault.rv, ck::rv::CKR_ARGUMENTS_BAD.0);
        }
    }
}
