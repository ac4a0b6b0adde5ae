//! ECDH over Weierstrass curves (SP 800-56A Revision 3, section 5.7.1.2) and the key derivations of ANSI X9.63 (SEC 1 version
//! 2.0, section 3.6.1) and SP 800-56C. The cofactor of these curves is one, so plain and cofactor agreement are the same.

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
    hashed_blocks(hash, len, [Some(secret), None, Some(shared_info)])
}

/// Derives `len` bytes by the one-step function of SP 800-56C Revision 2 (section 4.1, option 1: a hash).
///
/// # Errors
/// As [`x963_kdf`].
pub(crate) fn one_step_kdf(hash: Hash, secret: &[u8], fixed_info: &[u8], len: usize) -> Result<SecretBytes> {
    hashed_blocks(hash, len, [None, Some(secret), Some(fixed_info)])
}

/// Digests of three pieces, until there are `len` bytes; where a piece is missing, the counter stands.
fn hashed_blocks(hash: Hash, len: usize, pieces: [Option<&[u8]>; 3]) -> Result<SecretBytes> {
    let blocks = u32::try_from(len.div_ceil(hash.output_len())).map_err(|_| Error::InvalidParameter)?;
    if len == 0 || blocks == u32::MAX {
        return Err(Error::InvalidParameter);
    }
    let mut output = SecretBytes::zeroed(len);
    for (counter, place) in (1_u32..=blocks).zip(output.expose_mut().chunks_mut(hash.output_len())) {
        let mut stream = digest::Stream::new(hash);
        for piece in pieces {
            stream.update(piece.unwrap_or(&counter.to_be_bytes()));
        }
        let mut block = stream.finish();
        place.copy_from_slice(&block[..place.len()]);
        block.zeroize();
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Curve;
    use crate::crypto::ecdsa::PrivateKey;
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

    /// Computed with pyca/cryptography 48.0.0 (ConcatKDFHash).
    #[test]
    fn the_one_step_function_gives_the_answers_of_another_implementation() {
        let secret: Vec<u8> = (0..32).collect();
        let rows = [
            (
                Hash::Sha1,
                "27a12f679b93dea6003e87f5d5041ba6772ee87e859d503a4e969ed2ae5077418be8a586a29168c864631789462cc4f4\
                 0fbf1e7ff6d025c262bfe5fafe952944a7f9c2b00adb",
            ),
            (
                Hash::Sha256,
                "e729b56d8e881f035efe5c370189c8b06248661a64fe9676dd776bc34f79c5cec2b2950b318aaa472a6cf12da550d9a1\
                 a102507a03f7a6117eb065d8704cdcdba13254764d7a",
            ),
            (
                Hash::Sha512,
                "5c5c6627fcdd7accdd2e1e50ff66e3dabe2c13a8eae1b8ee5bd17454ab9c96c491ac34c9ccdfaf5783cda253bb516250\
                 8410b77dbbc346baeace9db22294e90c2058490973c5",
            ),
            (
                Hash::Sha3_384,
                "e3e8c6e6d23011883b8e9ed9d516088c3de04ce600a32baa259955a722e234e16c306c150224dd6e0658fe8317c34d70\
                 eb9660e779a1a3e86f24c689d95c0d1ac324f017e8f0",
            ),
        ];
        for (hash, answer) in rows {
            let answer = hex(answer);
            let derived = one_step_kdf(hash, &secret, b"fixed info", answer.len()).expect("derives");
            assert_eq!(derived.expose(), answer, "{hash:?}");
        }
    }
}
