//! ECDH over Weierstrass curves (SP 800-56A Revision 3, section 5.7.1.2) and the key derivation of ANSI X9.63
//! (SEC 1 version 2.0, section 3.6.1). The cofactor of these curves is one, so plain and cofactor agreement are the same.

use zeroize::Zeroize;

use super::{Error, Hash, Result, digest, ecdsa};
use crate::SecretBytes;

/// The shared secret: the x coordinate, of the field's width.
///
/// # Errors
/// [`Error::InvalidKey`] if the peer's point is not an uncompressed point of the key's curve.
pub(crate) fn agree(key: &ecdsa::PrivateKey, peer_point: &[u8]) -> Result<SecretBytes> {
    key.ffi().agree(peer_point)
}

/// Derives `len` bytes from a shared secret and the information that both sides share.
///
/// # Errors
/// [`Error::InvalidParameter`] if `len` is zero or more than the 32-bit counter gives.
pub(crate) fn x963_kdf(hash: Hash, secret: &[u8], shared_info: &[u8], len: usize) -> Result<SecretBytes> {
    let blocks = u32::try_from(len.div_ceil(hash.output_len())).map_err(|_| Error::InvalidParameter)?;
    if len == 0 || blocks == u32::MAX {
        return Err(Error::InvalidParameter);
    }
    let mut output = SecretBytes::zeroed(len);
    for (counter, piece) in (1_u32..=blocks).zip(output.expose_mut().chunks_mut(hash.output_len())) {
        let mut stream = digest::Stream::new(hash);
        stream.update(secret);
        stream.update(&counter.to_be_bytes());
        stream.update(shared_info);
        let mut block = stream.finish();
        piece.copy_from_slice(&block[..piece.len()]);
        block.zeroize();
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ecdsa::{Curve, PrivateKey};
    use crate::crypto::testing::hex;

    #[test]
    fn both_sides_agree() {
        for &curve in Curve::ALL {
            let (one, other) =
                (PrivateKey::generate(curve).expect("a key"), PrivateKey::generate(curve).expect("a key"));
            let first = agree(&one, &other.point().expect("point")).expect("agrees");
            let second = agree(&other, &one.point().expect("point")).expect("agrees");
            assert!(first == second && first.len() == curve.field_len());
        }
    }

    #[test]
    fn points_of_another_curve_and_the_point_at_infinity_are_refused() {
        let key = PrivateKey::generate(Curve::P256).expect("a key");
        let other = PrivateKey::generate(Curve::P384).expect("a key").point().expect("point");
        for wrong in [&[][..], &[0], &other, &[4; 65], &[0; 65]] {
            assert_eq!(agree(&key, wrong).err(), Some(Error::InvalidKey));
        }
    }

    /// The second SHA-256 example of the NIST CAVS set for ANSI X9.63-2001; the others were computed with another
    /// implementation over the same input.
    #[test]
    fn derivation_gives_the_known_answers() {
        let secret = hex("22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d");
        let shared = hex("75eef81aa3041e33b80971203d2c0c52");
        let rows = [
            (
                Hash::Sha256,
                "c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e52a13d9c7c6fc878c50c5ea0bc7b00e0\
                 da2447cfd874f6cf92f30d0097111485500c90c3af8b487872d04685d14c8d1dc8d7fa08beb0ce0ababc11f0bd496269\
                 142d43525a78e5bc79a17f59676a5706dc54d54d4d1f0bd7e386128ec26afc21",
            ),
            (
                Hash::Sha1,
                "6beac0d8c10aa0362470a7a9b9ebfa01d578e82eed54367f38f62e8114fd82ad4605d82bf54ec8b7cd2c5730524d6354\
                 dc46a844e588fece1980032d4c5c1d367875a874c6e1",
            ),
            (
                Hash::Sha224,
                "aca3810d153faf67402260df5f2d2883d2b796848582739cdbdf1d3594beba52c483946ec6e02eb24efc7d9a1d097daf\
                 06f6c1458be2a098d013cc456a098f427d8fb96f3bf4",
            ),
            (
                Hash::Sha384,
                "5aaf37fafffe1857a9e90d62e11a71d6d12e2ab1eac864d14f8c9af4259bb6796bb847a78cf8d9696e3243a5e6e98133\
                 f68a825055d254939b04f994790d26ffdb098b6323f9",
            ),
            (
                Hash::Sha512,
                "72ca20c0d208d9aa6c76758d9ac54808481067a8f8c770e8443579b442db98d8be3b2019739d1645072ce247d9360a43\
                 64f3a6f384f226e5c833dcb65e32e32d6453e6b21866",
            ),
        ];
        for (hash, answer) in rows {
            let answer = hex(answer);
            let derived = x963_kdf(hash, &secret, &shared, answer.len()).expect("derives");
            assert_eq!(derived.expose(), answer, "{hash:?}");
        }
        assert_eq!(x963_kdf(Hash::Sha256, &secret, &shared, 0).err(), Some(Error::InvalidParameter));
    }
}
