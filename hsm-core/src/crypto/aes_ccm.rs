//! AES-CCM (SP 800-38C, RFC 3610) with 128, 192 and 256-bit keys, nonces of 7 to 13 bytes and tags of 4 to 16 bytes; in one
//! piece, and for encryption in many, whose length is announced: no plaintext is given before its tag is checked.
//!
//! The mode is put together here from CBC-MAC and CTR, so that every length of nonce and tag is offered.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::ffi::{AesCipher, AesMode, Direction};
use super::{Error, Result, SealStream};
use crate::SecretBytes;

const BLOCK: usize = 16;

/// The parameters of one message.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    nonce: &'a [u8],
    aad: &'a [u8],
    tag_len: usize,
}

impl<'a> Params<'a> {
    /// Checks the nonce's length (7 to 13 bytes) and the tag's (4 to 16 bytes, even).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(crate) fn new(nonce: &'a [u8], aad: &'a [u8], tag_len: usize) -> Result<Self> {
        if !(7..=13).contains(&nonce.len()) || !(4..=BLOCK).contains(&tag_len) || !tag_len.is_multiple_of(2) {
            return Err(Error::InvalidParameter);
        }
        Ok(Params { nonce, aad, tag_len })
    }

    /// Length of the tag in bytes.
    pub(crate) fn tag_len(&self) -> usize {
        self.tag_len
    }

    /// Bytes of the field that holds the message's length: what the nonce leaves of a block.
    fn length_width(&self) -> usize {
        BLOCK - 1 - self.nonce.len()
    }

    /// A block of flags, nonce and a number.
    fn block(&self, flags: u8, number: u64) -> Result<[u8; BLOCK]> {
        let width = self.length_width();
        let bytes = number.to_be_bytes();
        let (unused, low) = bytes.split_at(bytes.len() - width);
        if unused.iter().any(|&byte| byte != 0) {
            return Err(Error::DataLength);
        }
        let mut block = [0; BLOCK];
        block[0] = flags;
        block[1..=self.nonce.len()].copy_from_slice(self.nonce);
        block[BLOCK - width..].copy_from_slice(low);
        Ok(block)
    }

    /// The first block of the MAC and the encoded additional data (SP 800-38C, appendix A.2).
    fn header(&self, message_len: usize) -> Result<Vec<u8>> {
        // Both fields are single digits: a tag of 16 bytes gives 7, a length field has 2 to 8 bytes.
        let flags = (u8::from(!self.aad.is_empty()) << 6)
            | (((self.tag_len - 2) / 2) << 3) as u8
            | (self.length_width() - 1) as u8;
        let mut header = self.block(flags, message_len as u64)?.to_vec();
        let len = self.aad.len() as u64;
        match len {
            0 => return Ok(header),
            1..0xff00 => header.extend_from_slice(&(len as u16).to_be_bytes()),
            0xff00..0x1_0000_0000 => {
                header.extend_from_slice(&[0xff, 0xfe]);
                header.extend_from_slice(&(len as u32).to_be_bytes());
            }
            _ => {
                header.extend_from_slice(&[0xff, 0xff]);
                header.extend_from_slice(&len.to_be_bytes());
            }
        }
        header.extend_from_slice(self.aad);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        Ok(header)
    }
}

/// The last block of a CBC encryption.
struct CbcMac {
    cipher: AesCipher,
    last: Zeroizing<[u8; BLOCK]>,
    /// The beginning of a block, and how long it is.
    begun: Zeroizing<[u8; BLOCK]>,
    begun_len: usize,
}

impl CbcMac {
    fn new(key: &[u8]) -> Result<Self> {
        let mut cipher = AesCipher::new(AesMode::Cbc, Direction::Encrypt, key)?;
        cipher.set_block_iv(Direction::Encrypt, &[0; BLOCK])?;
        Ok(CbcMac { cipher, last: Zeroizing::default(), begun: Zeroizing::default(), begun_len: 0 })
    }

    /// Takes data; what is not a whole block waits for more.
    fn update(&mut self, data: &[u8]) -> Result<()> {
        let (head, data) = data.split_at(data.len().min((BLOCK - self.begun_len) % BLOCK));
        self.begin(head);
        if self.begun_len == BLOCK {
            self.pad()?;
        }
        let mut output = Zeroizing::new([0; 256 * BLOCK]);
        let (whole, rest) = data.split_at(data.len() - data.len() % BLOCK);
        for piece in whole.chunks(output.len()) {
            self.cipher.process(piece, &mut output[..piece.len()])?;
            self.last.copy_from_slice(&output[piece.len() - BLOCK..piece.len()]);
        }
        self.begin(rest);
        Ok(())
    }

    fn begin(&mut self, data: &[u8]) {
        let end = self.begun_len + data.len();
        self.begun[self.begun_len..end].copy_from_slice(data);
        self.begun_len = end;
    }

    /// Fills a block that has begun with zeros.
    fn pad(&mut self) -> Result<()> {
        if self.begun_len > 0 {
            self.begun[self.begun_len..].fill(0);
            self.begun_len = 0;
            self.cipher.process(&*self.begun, &mut *self.last)?;
        }
        Ok(())
    }
}

fn mac(key: &[u8], params: &Params<'_>, message: &[u8]) -> Result<Zeroizing<[u8; BLOCK]>> {
    let mut mac = CbcMac::new(key)?;
    mac.update(&params.header(message.len())?)?;
    mac.update(message)?;
    mac.pad()?;
    Ok(mac.last)
}

/// The counter mode, and the key stream of block 0, which hides the MAC.
fn counter(key: &[u8], params: &Params<'_>) -> Result<(AesCipher, Zeroizing<[u8; BLOCK]>)> {
    let mut cipher = AesCipher::new(AesMode::Ctr, Direction::Encrypt, key)?;
    let first = params.block((params.length_width() - 1) as u8, 0)?;
    cipher.set_block_iv(Direction::Encrypt, &first)?;
    let mut mask = Zeroizing::new([0; BLOCK]);
    cipher.process(&[0; BLOCK], &mut *mask)?;
    Ok((cipher, mask))
}

fn hidden(mut mac: Zeroizing<[u8; BLOCK]>, mask: &[u8; BLOCK]) -> Zeroizing<[u8; BLOCK]> {
    mac.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    mac
}

/// The ciphertext followed by the tag.
///
/// # Errors
/// [`Error::KeySize`]; [`Error::DataLength`] for a message longer than the nonce leaves room to count.
pub(crate) fn encrypt(key: &[u8], params: &Params<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
    let mut sealer = Box::new(Sealer::new(key, params, plaintext.len())?);
    let mut out = sealer.update(plaintext)?;
    out.extend(sealer.finish()?);
    Ok(out)
}

/// An encryption in pieces, whose length is known before.
pub(crate) struct Sealer {
    mac: CbcMac,
    counter: AesCipher,
    mask: Zeroizing<[u8; BLOCK]>,
    /// Bytes that are still to come.
    left: usize,
    tag_len: usize,
}

impl Sealer {
    /// Begins a message of so many bytes.
    ///
    /// # Errors
    /// As [`encrypt`].
    pub(crate) fn new(key: &[u8], params: &Params<'_>, message_len: usize) -> Result<Self> {
        let mut mac = CbcMac::new(key)?;
        mac.update(&params.header(message_len)?)?;
        let (counter, mask) = counter(key, params)?;
        Ok(Sealer { mac, counter, mask, left: message_len, tag_len: params.tag_len })
    }
}

impl SealStream for Sealer {
    /// [`Error::DataLength`] for more than was announced.
    fn update(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        self.left = self.left.checked_sub(plaintext.len()).ok_or(Error::DataLength)?;
        self.mac.update(plaintext)?;
        let mut ciphertext = vec![0; plaintext.len()];
        self.counter.process(plaintext, &mut ciphertext)?;
        Ok(ciphertext)
    }

    fn check_len(&self) -> Result<()> {
        if self.left > 0 { Err(Error::DataLength) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>> {
        self.check_len()?;
        self.mac.pad()?;
        Ok(hidden(self.mac.last, &self.mask)[..self.tag_len].to_vec())
    }
}

/// The plaintext of a ciphertext followed by its tag.
///
/// # Errors
/// [`Error::KeySize`]; [`Error::EncryptedDataLength`] if it is shorter than a tag, [`Error::AuthenticationFailed`] if it does
/// not open.
pub(crate) fn decrypt(key: &[u8], params: &Params<'_>, ciphertext_and_tag: &[u8]) -> Result<SecretBytes> {
    let len = ciphertext_and_tag.len().checked_sub(params.tag_len).ok_or(Error::EncryptedDataLength)?;
    let (ciphertext, tag) = ciphertext_and_tag.split_at(len);
    let (mut cipher, mask) = counter(key, params)?;
    let mut plaintext = SecretBytes::zeroed(len);
    cipher.process(ciphertext, plaintext.expose_mut())?;
    let mac = mac(key, params, plaintext.expose()).map_err(|error| match error {
        Error::DataLength => Error::EncryptedDataLength,
        other => other,
    })?;
    if hidden(mac, &mask)[..params.tag_len].ct_eq(tag).into() {
        Ok(plaintext)
    } else {
        plaintext.expose_mut().zeroize();
        Err(Error::AuthenticationFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// SP 800-38C, appendix C: examples 1 to 4; the additional data of the last is 65536 bytes long.
    #[test]
    fn the_examples_of_the_standard() {
        let key = hex("404142434445464748494a4b4c4d4e4f");
        let long: Vec<u8> = (0..=255).cycle().take(65536).collect();
        let bytes = |range: core::ops::Range<u8>| range.collect::<Vec<u8>>();
        let rows = [
            (bytes(0x10..0x17), bytes(0..8), bytes(0x20..0x24), 4, "7162015b4dac255d"),
            (bytes(0x10..0x18), bytes(0..16), bytes(0x20..0x30), 6, "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd"),
            (
                bytes(0x10..0x1c),
                bytes(0..20),
                bytes(0x20..0x38),
                8,
                "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951",
            ),
            (
                bytes(0x10..0x1d),
                long,
                bytes(0x20..0x40),
                14,
                "69915dad1e84c6376a68c2967e4dab615ae0fd1faec44cc484828529463ccf72b4ac6bec93e8598e7f0dadbcea5b",
            ),
        ];
        for (nonce, aad, plaintext, tag_len, answer) in rows {
            let params = Params::new(&nonce, &aad, tag_len).expect("in range");
            let answer = hex(answer);
            assert_eq!(encrypt(&key, &params, &plaintext), Ok(answer.clone()), "{tag_len}");
            assert_eq!(decrypt(&key, &params, &answer).expect("opens").expose(), plaintext);
        }
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for nonce_len in [0, 6, 14, 16] {
            assert_eq!(Params::new(&vec![1; nonce_len], &[], 16).err(), Some(Error::InvalidParameter), "{nonce_len}");
        }
        for tag_len in [0, 2, 3, 5, 15, 17, 18, usize::MAX] {
            assert_eq!(Params::new(&[1; 12], &[], tag_len).err(), Some(Error::InvalidParameter), "{tag_len}");
        }
        let params = Params::new(&[1; 12], &[], 16).expect("in range");
        for key_len in [0, 15, 17, 31, 33] {
            assert_eq!(encrypt(&vec![1; key_len], &params, b"x").err(), Some(Error::KeySize), "{key_len}");
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let text: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let params = Params::new(&[9; 13], b"header", 10).expect("in range");
        for len in [0, 1, 15, 16, 17, 33, 5000] {
            for piece in [1, 7, 15, 16, 17, 4097] {
                let mut sealer = Box::new(Sealer::new(&[3; 24], &params, len).expect("begins"));
                let pieces = text[..len].chunks(piece);
                let mut sealed: Vec<u8> = pieces.flat_map(|piece| sealer.update(piece).expect("fits")).collect();
                sealed.extend(sealer.finish().expect("as announced"));
                assert_eq!(Ok(sealed), encrypt(&[3; 24], &params, &text[..len]), "{len} by {piece}");
            }
        }
    }

    #[test]
    fn a_message_of_another_length_than_announced_is_refused() {
        let params = Params::new(&[9; 12], &[], 16).expect("in range");
        let begun = || Box::new(Sealer::new(&[3; 16], &params, 3).expect("begins"));
        assert_eq!(begun().update(b"four"), Err(Error::DataLength));
        let mut short = begun();
        short.update(b"ab").expect("fits");
        assert_eq!(short.finish(), Err(Error::DataLength));
    }

    #[test]
    fn a_message_longer_than_its_length_field_is_refused() {
        let params = Params::new(&[1; 13], &[], 16).expect("in range");
        let most = encrypt(&[7; 16], &params, &vec![0; 65535]).expect("65535 fit two bytes");
        assert_eq!(decrypt(&[7; 16], &params, &most).expect("opens").len(), 65535);
        assert_eq!(encrypt(&[7; 16], &params, &vec![0; 65536]).err(), Some(Error::DataLength));
        assert_eq!(decrypt(&[7; 16], &params, &vec![0; 65552]).err(), Some(Error::EncryptedDataLength));
    }

    #[test]
    fn any_change_is_noticed() {
        let params = Params::new(&[2; 11], b"aad", 8).expect("in range");
        let sealed = encrypt(&[1; 32], &params, b"plaintext").expect("sealed");
        for position in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[position] ^= 0x80;
            assert_eq!(decrypt(&[1; 32], &params, &wrong).err(), Some(Error::AuthenticationFailed), "{position}");
        }
        for other in [Params::new(&[2; 11], b"AAD", 8), Params::new(&[3; 11], b"aad", 8)] {
            let refused = decrypt(&[1; 32], &other.expect("in range"), &sealed).err();
            assert_eq!(refused, Some(Error::AuthenticationFailed));
        }
        assert_eq!(decrypt(&[1; 32], &params, &sealed[..7]).err(), Some(Error::EncryptedDataLength));
    }
}
