//! ECDH over P-256, P-384 and P-521 (SP 800-56A Revision 3, section 5.7.1.2) and the key derivation of ANSI X9.63
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
