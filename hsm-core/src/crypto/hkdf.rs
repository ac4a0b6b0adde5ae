//! HKDF (RFC 5869) over the hashes of [`super::digest`].

use super::{Error, Hash, Result, hmac};
use crate::SecretBytes;

/// The pseudorandom key: an HMAC of the input under the salt. No salt is one of zeros (section 2.2).
pub(crate) fn extract(hash: Hash, salt: &[u8], input: &[u8]) -> SecretBytes {
    // HMAC fills a short key with zeros, so that an empty salt is the salt of zeros.
    SecretBytes::new(hmac::Key::new(hash, salt).sign(input))
}

/// `len` bytes of output keying material (section 2.3).
///
/// # Errors
/// [`Error::InvalidParameter`] if `len` is zero or more than 255 times the hash's length.
pub(crate) fn expand(hash: Hash, key: &[u8], info: &[u8], len: usize) -> Result<SecretBytes> {
    if len == 0 || len > 255 * hash.output_len() {
        return Err(Error::InvalidParameter);
    }
    let key = hmac::Key::new(hash, key);
    let mut output = SecretBytes::zeroed(len);
    let mut block = SecretBytes::zeroed(0);
    for (counter, piece) in (1..=255_u8).zip(output.expose_mut().chunks_mut(hash.output_len())) {
        let input = SecretBytes::new([block.expose(), info, &[counter]].concat());
        block = SecretBytes::new(key.sign(input.expose()));
        piece.copy_from_slice(&block.expose()[..piece.len()]);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// RFC 5869, appendix A: test cases 1, 2, 3 (SHA-256), 4 and 7 (SHA-1).
    #[test]
    fn the_examples_of_the_standard() {
        let bytes = |range: core::ops::RangeInclusive<u8>| range.collect::<Vec<u8>>();
        let rows = [
            (
                Hash::Sha256,
                vec![0x0b; 22],
                bytes(0..=12),
                bytes(0xf0..=0xf9),
                "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                Hash::Sha256,
                bytes(0..=0x4f),
                bytes(0x60..=0xaf),
                bytes(0xb0..=0xff),
                "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                Hash::Sha256,
                vec![0x0b; 22],
                vec![],
                vec![],
                "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
            (
                Hash::Sha1,
                vec![0x0b; 11],
                bytes(0..=12),
                bytes(0xf0..=0xf9),
                "9b6c18c432a7bf8f0e71c8eb88f4b30baa2ba243",
                "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896",
            ),
            (
                Hash::Sha1,
                vec![0x0c; 22],
                vec![],
                vec![],
                "2adccada18779e7c2077ad2eb19d3f3e731385dd",
                "2c91117204d745f3500d636a62f64f0ab3bae548aa53d423b0d1f27ebba6f5e5673a081d70cce7acfc48",
            ),
        ];
        for (hash, input, salt, info, key, output) in rows {
            let output = hex(output);
            let extracted = extract(hash, &salt, &input);
            assert_eq!(extracted.expose(), hex(key));
            let expanded = expand(hash, extracted.expose(), &info, output.len()).expect("expands");
            assert_eq!(expanded.expose(), output);
        }
    }

    #[test]
    fn the_longest_output_has_255_blocks() {
        for &hash in Hash::ALL {
            let most = 255 * hash.output_len();
            assert_eq!(expand(hash, b"key", b"", most).map(|output| output.len()), Ok(most));
            assert_eq!(expand(hash, b"key", b"", most + 1).err(), Some(Error::InvalidParameter));
        }
        assert_eq!(expand(Hash::Sha256, b"key", b"", 0).err(), Some(Error::InvalidParameter));
    }
}
