//! Shares of a key for people to keep: any m of n give it back. Text, because they are printed, typed and put into envelopes.
//!
//! `craton-share-1` and a space, then 76 letters and digits: RFC 4648 base32 without padding, in lower case, of
//!
//! ```text
//!  0  8 name of the set     8 1 m     9 1 n     10 1 index     11 32 value     43 4 check sum
//! ```
//!
//! The check sum is the first four bytes of SHA-256 over `craton-hsm share v1` and bytes 0..43: it finds a slip of the pen, no forgery.
//! Whether the key is the right one, its user finds out by a commitment. The scheme is that of `crypto/shamir.rs`.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::crypto::rng;
use crate::crypto::shamir::{self, Point};
use crate::{Error, Kind, Result, SecretBytes};

const WORD: &str = "craton-share-1";
const SET_LEN: usize = 8;
const SECRET_LEN: usize = 32;
const CHECKED_LEN: usize = SET_LEN + 3 + SECRET_LEN;
const SUM_LEN: usize = 4;

/// What all shares of one key have in common. It tells nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSet {
    /// Tells the sets apart.
    pub name: [u8; SET_LEN],
    /// How many shares are needed.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
}

impl ShareSet {
    /// The name, for people and formats.
    pub fn name_hex(&self) -> String {
        HEXLOWER.encode(&self.name)
    }

    /// The name of a set in hexadecimal digits.
    pub(crate) fn parse_name(text: &str) -> Option<[u8; SET_LEN]> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
    }
}

/// One share. It is a secret: m of them are the key.
pub struct Share {
    set: ShareSet,
    point: Point,
}

impl core::fmt::Debug for Share {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Share({} of set {})", self.point.index, self.set.name_hex())
    }
}

impl Share {
    /// Its set.
    pub fn set(&self) -> ShareSet {
        self.set
    }

    /// Its number, from 1.
    pub fn index(&self) -> u8 {
        self.point.index
    }

    /// The text for its keeper.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = self.checked_bytes();
        let sum = check_sum(&body);
        let whole = Zeroizing::new([&body[..], &sum].concat());
        let digits = Zeroizing::new(BASE32_NOPAD.encode(&whole));
        Zeroizing::new(format!("{WORD} {}", Zeroizing::new(digits.to_ascii_lowercase()).as_str()))
    }

    /// Reads what [`Share::to_text`] wrote; upper case, and white space around and within, are no matter.
    ///
    /// # Errors
    /// [`Kind::DataInvalid`] if it is no share or has a slip in it.
    pub fn parse(text: &str) -> Result<Share> {
        let no_share = || Error::new(Kind::DataInvalid, "it is no share: one begins with craton-share-1");
        let digits = text.trim().strip_prefix(WORD).ok_or_else(no_share)?;
        let digits: Zeroizing<String> =
            Zeroizing::new(digits.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect());
        let slip = || Error::new(Kind::DataInvalid, "the share has a slip in it: its check sum does not match");
        let bytes = BASE32_NOPAD.decode(digits.as_bytes()).map(Zeroizing::new).map_err(|_| slip())?;
        let (body, sum) = bytes.split_at_checked(CHECKED_LEN).ok_or_else(slip)?;
        if sum != check_sum(body) {
            return Err(slip());
        }
        let name = body[..SET_LEN].try_into().map_err(|_| slip())?;
        let set = ShareSet { name, threshold: body[SET_LEN], count: body[SET_LEN + 1] };
        let index = body[SET_LEN + 2];
        if set.threshold < 2 || set.threshold > set.count || index == 0 || index > set.count {
            return Err(Error::new(Kind::DataInvalid, "the share contradicts itself"));
        }
        Ok(Share { set, point: Point { index, value: SecretBytes::copy_from(&body[SET_LEN + 3..]) } })
    }

    fn checked_bytes(&self) -> Zeroizing<Vec<u8>> {
        let set = &self.set;
        let numbers = [set.threshold, set.count, self.point.index];
        Zeroizing::new([&set.name[..], &numbers, self.point.value.expose()].concat())
    }
}

fn check_sum(body: &[u8]) -> [u8; SUM_LEN] {
    let digest = Sha256::new().chain_update(b"craton-hsm share v1").chain_update(body).finalize();
    let mut sum = [0; SUM_LEN];
    sum.copy_from_slice(&digest[..SUM_LEN]);
    sum
}

/// A new random key of 32 bytes and its shares.
///
/// # Errors
/// [`Kind::ArgumentsBad`] unless 2 <= threshold <= count.
pub fn new_shares(threshold: u8, count: u8) -> Result<(SecretBytes, Vec<Share>)> {
    if threshold < 2 || threshold > count {
        return Err(Error::new(Kind::ArgumentsBad, "shares are m:n with 2 <= m <= n <= 255"));
    }
    let secret = rng::secret(SECRET_LEN)?;
    let mut name = [0; SET_LEN];
    rng::fill(&mut name)?;
    let set = ShareSet { name, threshold, count };
    let points = shamir::split(&secret, threshold, count)?;
    let shares: Vec<Share> = points.into_iter().map(|point| Share { set, point }).collect();
    Ok((secret, shares))
}

/// The key of these shares.
///
/// # Errors
/// [`Kind::DataInvalid`] in words that name the share: too few, of different sets, one given twice.
pub fn combine_shares(shares: &[Share]) -> Result<(ShareSet, SecretBytes)> {
    let bad = |why: String| Error::new(Kind::DataInvalid, why);
    let first = shares.first().ok_or_else(|| bad("no share was given".into()))?;
    for (at, share) in shares.iter().enumerate() {
        if share.set != first.set {
            return Err(bad(format!(
                "share {} belongs to set {}, and share {} to set {}",
                share.index(),
                share.set.name_hex(),
                first.index(),
                first.set.name_hex()
            )));
        }
        if shares[..at].iter().any(|other| other.index() == share.index()) {
            return Err(bad(format!("share {} of set {} was given twice", share.index(), share.set.name_hex())));
        }
    }
    let needed = usize::from(first.set.threshold);
    if shares.len() < needed {
        return Err(bad(format!("{} of {needed} shares are there", shares.len())));
    }
    let points: Vec<&Point> = shares.iter().take(needed).map(|share| &share.point).collect();
    Ok((first.set, shamir::combine(&points)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(shares: &[Share]) -> String {
        combine_shares(shares).map(drop).unwrap_err().detail().unwrap().to_owned()
    }

    #[test]
    fn shares_survive_print_and_pen() {
        let (secret, shares) = new_shares(2, 3).unwrap();
        let typed = |share: &Share| {
            let text = share.to_text();
            let (word, digits) = text.split_once(' ').unwrap();
            format!("  {word} {}\n{}\n", &digits.to_ascii_uppercase()[..40], &digits[40..])
        };
        let read: Vec<Share> = shares.iter().skip(1).map(|share| Share::parse(&typed(share)).unwrap()).collect();
        assert!(combine_shares(&read).unwrap().1 == secret);
    }

    #[test]
    fn every_changed_letter_is_a_slip() {
        let (_, shares) = new_shares(2, 2).unwrap();
        let text = shares[0].to_text();
        let letters = text.as_bytes();
        for at in WORD.len() + 1..letters.len() {
            let mut changed = letters.to_vec();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert!(Share::parse(core::str::from_utf8(&changed).unwrap()).is_err(), "letter {at}");
        }
        assert!(Share::parse(&text[..text.len() - 1]).is_err());
        assert!(Share::parse("").is_err());
    }

    #[test]
    fn too_few_mixed_and_repeated_shares_are_named() {
        let (_, mut shares) = new_shares(3, 5).unwrap();
        let (_, other) = new_shares(3, 5).unwrap();
        assert_eq!(refusal(&shares[..2]), "2 of 3 shares are there");
        assert_eq!(refusal(&[]), "no share was given");
        let again = Share::parse(&shares[1].to_text()).unwrap();
        shares.push(again);
        let sentence = refusal(&shares);
        assert!(sentence.starts_with("share 2 of set") && sentence.ends_with("given twice"), "{sentence}");
        shares.pop();
        shares.extend(other.into_iter().skip(4));
        assert!(refusal(&shares).contains("belongs to set"), "{}", refusal(&shares));
    }

    #[test]
    fn what_is_no_quorum_is_refused() {
        for (threshold, count) in [(0, 0), (1, 1), (1, 3), (3, 2)] {
            assert!(new_shares(threshold, count).is_err(), "{threshold}:{count}");
        }
    }

    /// Made by an independent program (Python) from the head of this file; read by all later versions. The key is 32 times the byte 0x5a.
    #[test]
    fn golden_shares_are_read() {
        let texts = [
            "craton-share-1 aaaqeayeaudaoaqdaet6djaydqdwysfgsjeksrafqv5fxzypnya22p67vm2r3ycnk4trgc5q2xyq",
            "craton-share-1 aaaqeayeaudaoaqdapoyyq44sc6qa3cfdfwfi6f3ea5ftbvfa23vr5ooklvzhd3djxoyczofnx5a",
        ];
        let shares: Vec<Share> = texts.iter().map(|text| Share::parse(text).unwrap()).collect();
        assert!(combine_shares(&shares).unwrap().1.expose() == [0x5a; 32]);
    }
}
