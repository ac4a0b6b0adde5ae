//! What a wrong PKCS#1 v1.5 padding gets instead of an error: a message that looks random, in the same time.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};
use zeroize::Zeroizing;

use crate::SecretBytes;
use crate::crypto::{MacStream, hmac};

/// Takes the PKCS#1 v1.5 padding off, or gives the message that `message_key` makes, in the same time.
pub(super) fn unpad_or_invent(padded: &[u8], message_key: &hmac::Key) -> SecretBytes {
    let len = padded.len();
    // The longest message leaves room for two marks, eight bytes of padding and a separator, which is counted below.
    let longest = (len - 10) as u32;
    let mut invented_len = 0_u32;
    let mask = u32::MAX >> longest.leading_zeros();
    for candidate in expand(message_key, b"length", 256).expose().chunks_exact(2) {
        let candidate = (u32::from(candidate[0]) << 8 | u32::from(candidate[1])) & mask;
        invented_len.conditional_assign(&candidate, candidate.ct_lt(&longest));
    }
    let invented = expand(message_key, b"message", len);

    let mut good = padded[0].ct_eq(&0) & padded[1].ct_eq(&2);
    let mut separator = 0_u32;
    let mut found = Choice::from(0);
    for (position, byte) in (0_u32..).zip(padded).skip(2) {
        let first_zero = byte.ct_eq(&0) & !found;
        separator.conditional_assign(&position, first_zero);
        found |= first_zero;
    }
    good &= found & separator.ct_gt(&9);

    let start = u32::conditional_select(&(len as u32 - invented_len), &(separator + 1), good) as usize;
    let mut chosen = SecretBytes::zeroed(len);
    for (out, (real, other)) in chosen.expose_mut().iter_mut().zip(padded.iter().zip(invented.expose())) {
        *out = u8::conditional_select(other, real, good);
    }
    SecretBytes::copy_from(&chosen.expose()[start..])
}

/// The pseudo-random function of draft-irtf-cfrg-rsa-guidance: HMAC over block number, label and length in bits.
pub(super) fn expand(key: &hmac::Key, label: &[u8], len: usize) -> SecretBytes {
    let mut out = SecretBytes::zeroed(len);
    let bits = (len as u16).wrapping_mul(8).to_be_bytes();
    for (number, piece) in (0_u16..).zip(out.expose_mut().chunks_mut(32)) {
        let mut stream = Box::new(key.start());
        stream.update(&number.to_be_bytes());
        stream.update(label);
        stream.update(&bits);
        let block = Zeroizing::new(stream.finish());
        piece.copy_from_slice(&block[..piece.len()]);
    }
    out
}
