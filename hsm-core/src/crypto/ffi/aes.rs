//! AES modes in AWS-LC that keep their state in the library.

use core::ffi::c_int;
use core::ptr;

use aws_lc_sys as c;

use super::{Error, Result, c_len, check, failed};

/// The AES modes that keep their state in the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto) enum AesMode {
    Ecb,
    Cbc,
    Ctr,
    Gcm,
}

/// Whether a cipher makes ciphertext or opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Plaintext in, ciphertext out.
    Encrypt,
    /// Ciphertext in, plaintext out.
    Decrypt,
}

impl Direction {
    fn flag(self) -> c_int {
        match self {
            Direction::Encrypt => 1,
            Direction::Decrypt => 0,
        }
    }
}

/// An AES cipher with its key schedule and, once an IV is set, its position.
pub(in crate::crypto) struct AesCipher(*mut c::EVP_CIPHER_CTX);

// SAFETY: AWS-LC's cipher context may be moved between threads; it holds no thread-local state.
unsafe impl Send for AesCipher {}
// SAFETY: through a shared reference the context is only copied, which reads it.
unsafe impl Sync for AesCipher {}

impl AesCipher {
    fn empty() -> Result<Self> {
        // SAFETY: null is checked; otherwise the new object is owned by the value.
        let context = unsafe { c::EVP_CIPHER_CTX_new() };
        if context.is_null() { failed(Error::Internal) } else { Ok(AesCipher(context)) }
    }

    /// Runs the key schedule; the IV comes later.
    pub(in crate::crypto) fn new(mode: AesMode, direction: Direction, key: &[u8]) -> Result<Self> {
        // SAFETY: each function returns a pointer to a constant that lives as long as the program.
        let cipher = unsafe {
            match (mode, key.len()) {
                (AesMode::Ecb, 16) => c::EVP_aes_128_ecb(),
                (AesMode::Ecb, 24) => c::EVP_aes_192_ecb(),
                (AesMode::Ecb, 32) => c::EVP_aes_256_ecb(),
                (AesMode::Cbc, 16) => c::EVP_aes_128_cbc(),
                (AesMode::Cbc, 24) => c::EVP_aes_192_cbc(),
                (AesMode::Cbc, 32) => c::EVP_aes_256_cbc(),
                (AesMode::Ctr, 16) => c::EVP_aes_128_ctr(),
                (AesMode::Ctr, 24) => c::EVP_aes_192_ctr(),
                (AesMode::Ctr, 32) => c::EVP_aes_256_ctr(),
                (AesMode::Gcm, 16) => c::EVP_aes_128_gcm(),
                (AesMode::Gcm, 24) => c::EVP_aes_192_gcm(),
                (AesMode::Gcm, 32) => c::EVP_aes_256_gcm(),
                _ => return Err(Error::KeySize),
            }
        };
        // SAFETY: the cipher is a constant for keys of this length.
        unsafe { AesCipher::keyed(cipher, direction, key) }
    }

    /// The same for triple DES with a key of 24 bytes, in CBC if `chained`, else in ECB.
    pub(in crate::crypto) fn triple_des(chained: bool, direction: Direction, key: &[u8; 24]) -> Result<Self> {
        // SAFETY: both functions return a pointer to a constant that lives as long as the program, a cipher for keys of 24 bytes.
        unsafe {
            let cipher = if chained { c::EVP_des_ede3_cbc() } else { c::EVP_des_ede3() };
            AesCipher::keyed(cipher, direction, key)
        }
    }

    /// # Safety
    /// The cipher is a constant of the library and takes keys of this length.
    unsafe fn keyed(cipher: *const c::EVP_CIPHER, direction: Direction, key: &[u8]) -> Result<Self> {
        let this = AesCipher::empty()?;
        // SAFETY: the context is alive and new; the caller says that the key has the length of the cipher; a null IV is allowed here.
        let code = unsafe {
            c::EVP_CipherInit_ex(this.0, cipher, ptr::null_mut(), key.as_ptr(), ptr::null(), direction.flag())
        };
        check(code, Error::Internal)?;
        // SAFETY: the context is alive and initialised.
        check(unsafe { c::EVP_CIPHER_CTX_set_padding(this.0, 0) }, Error::Internal)?;
        Ok(this)
    }

    /// A second cipher with the same key and the same position.
    pub(in crate::crypto) fn duplicate(&self) -> Result<Self> {
        let copy = AesCipher::empty()?;
        // SAFETY: both contexts are alive; the source is only read.
        check(unsafe { c::EVP_CIPHER_CTX_copy(copy.0, self.0) }, Error::Internal)?;
        Ok(copy)
    }

    /// Sets an IV of one block (CBC, CTR).
    pub(in crate::crypto) fn set_block_iv(&mut self, direction: Direction, iv: &[u8]) -> Result<()> {
        // SAFETY: the context is alive and initialised, and only read.
        let expected = unsafe { c::EVP_CIPHER_CTX_iv_length(self.0) };
        if usize::try_from(expected) != Ok(iv.len()) {
            return Err(Error::InvalidParameter);
        }
        // SAFETY: the IV has the length that the context's mode reads; null cipher and key keep those set before.
        let code = unsafe {
            c::EVP_CipherInit_ex(self.0, ptr::null(), ptr::null_mut(), ptr::null(), iv.as_ptr(), direction.flag())
        };
        check(code, Error::Internal)
    }

    /// Sets a GCM IV of any length.
    pub(in crate::crypto) fn set_gcm_iv(&mut self, direction: Direction, iv: &[u8]) -> Result<()> {
        let len = c_len(iv.len(), Error::InvalidParameter)?;
        // SAFETY: the context is initialised for GCM; the IV has the length announced just before it is read.
        unsafe {
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_SET_IVLEN, len, ptr::null_mut());
            check(code, Error::InvalidParameter)?;
            let code =
                c::EVP_CipherInit_ex(self.0, ptr::null(), ptr::null_mut(), ptr::null(), iv.as_ptr(), direction.flag());
            check(code, Error::Internal)
        }
    }

    /// Feeds data that is authenticated but not encrypted (GCM).
    pub(in crate::crypto) fn authenticate(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let len = c_len(data.len(), Error::InvalidParameter)?;
        let mut written = 0;
        // SAFETY: context and input are alive; a null output marks the data as authenticated only.
        let code = unsafe { c::EVP_CipherUpdate(self.0, ptr::null_mut(), &mut written, data.as_ptr(), len) };
        check(code, Error::Internal)
    }

    /// Runs the cipher over `input`, which for block modes is a whole number of blocks, into `output` of the same length.
    pub(in crate::crypto) fn process(&mut self, input: &[u8], output: &mut [u8]) -> Result<()> {
        if input.len() != output.len() {
            return Err(Error::Internal);
        }
        // Pieces keep the C `int` lengths in range and are a whole number of blocks.
        for (from, to) in input.chunks(1 << 30).zip(output.chunks_mut(1 << 30)) {
            let len = c_len(from.len(), Error::DataLength)?;
            let mut written = 0;
            // SAFETY: context, input and output are alive and of the same length; whole blocks in give as many bytes out,
            // because padding is off and no partial block is ever left inside.
            let code = unsafe { c::EVP_CipherUpdate(self.0, to.as_mut_ptr(), &mut written, from.as_ptr(), len) };
            check(code, Error::Internal)?;
            if written != len {
                return Err(Error::Internal);
            }
        }
        Ok(())
    }

    /// Ends a GCM encryption and gives the tag.
    pub(in crate::crypto) fn finish_with_tag(&mut self, tag: &mut [u8]) -> Result<()> {
        let len = c_len(tag.len(), Error::InvalidParameter)?;
        let mut written = 0;
        let mut none = [0_u8; 16];
        // SAFETY: the context is alive; the scratch output holds a block; the tag has the length that is passed.
        unsafe {
            check(c::EVP_CipherFinal_ex(self.0, none.as_mut_ptr(), &mut written), Error::Internal)?;
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_GET_TAG, len, tag.as_mut_ptr().cast());
            check(code, Error::Internal)
        }
    }

    /// Ends a GCM decryption: whether the tag, or its leading bytes that were kept, is the right one.
    pub(in crate::crypto) fn finish_checking_tag(&mut self, tag: &[u8]) -> Result<()> {
        let len = c_len(tag.len(), Error::InvalidParameter)?;
        let mut written = 0;
        let mut none = [0_u8; 16];
        // SAFETY: the context is alive; the library only reads the tag through the pointer; the scratch output holds a block.
        unsafe {
            let code = c::EVP_CIPHER_CTX_ctrl(self.0, c::EVP_CTRL_AEAD_SET_TAG, len, tag.as_ptr().cast_mut().cast());
            check(code, Error::Internal)?;
            check(c::EVP_CipherFinal_ex(self.0, none.as_mut_ptr(), &mut written), Error::AuthenticationFailed)
        }
    }
}

impl Drop for AesCipher {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value and freed once; the library wipes its key schedule.
        unsafe { c::EVP_CIPHER_CTX_free(self.0) };
    }
}
