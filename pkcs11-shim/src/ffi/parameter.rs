//! The parameter structures of mechanisms: each is read whole and its inner pointers become claims.
//! What they mean, and which mechanism takes which, is in `params`.
#![expect(unsafe_code, reason = "C structures with pointers in them are read here")]

pub(crate) mod kdf;

use ck::Rv;
use ck::rv::CKR_MECHANISM_PARAM_INVALID;
use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_CCM_MESSAGE_PARAMS, CK_ECDH_AES_KEY_WRAP_PARAMS, CK_ECDH1_DERIVE_PARAMS, CK_EDDSA_PARAMS,
    CK_GCM_MESSAGE_PARAMS, CK_GCM_PARAMS, CK_HASH_SIGN_ADDITIONAL_CONTEXT, CK_RSA_AES_KEY_WRAP_PARAMS,
    CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS, CK_SIGN_ADDITIONAL_CONTEXT,
};

use super::claim::{InBytes, OutExact};

/// A mechanism's parameter as the caller gave it.
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'c>(InBytes<'c>);

/// `CK_GCM_PARAMS` as it was before the IV's length in bits came in: the same members without it.
#[repr(C)]
#[derive(Clone, Copy)]
struct OldGcm {
    iv: *mut u8,
    iv_len: u64,
    aad: *mut u8,
    aad_len: u64,
    tag_bits: u64,
}

/// A structure without claims: only numbers and pointers, valid for every bit pattern.
///
/// # Safety
/// The implementor keeps exactly that promise.
unsafe trait Plain: Copy {}
// SAFETY (all): C structures of integers and raw pointers.
unsafe impl Plain for CK_RSA_PKCS_PSS_PARAMS {}
unsafe impl Plain for CK_RSA_PKCS_OAEP_PARAMS {}
unsafe impl Plain for CK_GCM_PARAMS {}
unsafe impl Plain for OldGcm {}
unsafe impl Plain for CK_GCM_MESSAGE_PARAMS {}
unsafe impl Plain for CK_CCM_MESSAGE_PARAMS {}
unsafe impl Plain for CK_AES_CTR_PARAMS {}
unsafe impl Plain for CK_ECDH1_DERIVE_PARAMS {}
unsafe impl Plain for CK_EDDSA_PARAMS {}
unsafe impl Plain for CK_SIGN_ADDITIONAL_CONTEXT {}
unsafe impl Plain for CK_RSA_AES_KEY_WRAP_PARAMS {}
unsafe impl Plain for CK_ECDH_AES_KEY_WRAP_PARAMS {}
unsafe impl Plain for CK_HASH_SIGN_ADDITIONAL_CONTEXT {}

/// Numbers of CK_RSA_PKCS_PSS_PARAMS.
pub(crate) struct Pss {
    pub(crate) hash: u64,
    pub(crate) mgf: u64,
    pub(crate) salt_len: u64,
}

/// CK_RSA_PKCS_OAEP_PARAMS.
pub(crate) struct Oaep<'c> {
    pub(crate) hash: u64,
    pub(crate) mgf: u64,
    pub(crate) source: u64,
    pub(crate) label: InBytes<'c>,
}

/// CK_ECDH_AES_KEY_WRAP_PARAMS.
pub(crate) struct EcdhAesWrap<'c> {
    pub(crate) aes_bits: u64,
    pub(crate) kdf: u64,
    pub(crate) shared: InBytes<'c>,
}

/// CK_GCM_PARAMS.
pub(crate) struct Gcm<'c> {
    pub(crate) iv: InBytes<'c>,
    pub(crate) iv_bits: u64,
    pub(crate) aad: InBytes<'c>,
    pub(crate) tag_bits: u64,
}

/// CK_GCM_MESSAGE_PARAMS or CK_CCM_MESSAGE_PARAMS: what is in it, and where IV and tag go.
pub(crate) struct AeadMessage<'c> {
    pub(crate) iv: InBytes<'c>,
    pub(crate) iv_place: OutExact<'c>,
    pub(crate) fixed_bits: u64,
    pub(crate) generator: u64,
    pub(crate) tag: InBytes<'c>,
    pub(crate) tag_place: OutExact<'c>,
    pub(crate) tag_bits: u64,
    pub(crate) data_len: u64,
}

/// CK_AES_CTR_PARAMS.
pub(crate) struct Ctr {
    pub(crate) counter_bits: u64,
    pub(crate) block: [u8; 16],
}

/// CK_ECDH1_DERIVE_PARAMS.
pub(crate) struct Ecdh1<'c> {
    pub(crate) kdf: u64,
    pub(crate) shared: InBytes<'c>,
    pub(crate) public: InBytes<'c>,
}

/// CK_EDDSA_PARAMS.
pub(crate) struct EdDsa<'c> {
    pub(crate) prehash: bool,
    pub(crate) context: InBytes<'c>,
}

/// CK_SIGN_ADDITIONAL_CONTEXT.
pub(crate) struct SignContext<'c> {
    pub(crate) hedge: u64,
    pub(crate) context: InBytes<'c>,
}

impl<'c> Parameter<'c> {
    /// # Safety
    /// While `'c` lasts, `start` is NULL or points at `len` readable bytes, and the pointers in the structure that lies
    /// there keep what the structure says.
    pub(super) unsafe fn at(start: *const u8, len: u64) -> Self {
        // SAFETY: passed on.
        Parameter(unsafe { InBytes::at(start, len) })
    }

    /// Whether there is no parameter; NULL with a length is not "no parameter".
    pub(crate) fn is_none(&self) -> bool {
        self.0.len() == 0
    }

    /// The length that the caller names.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The plain bytes.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID` for NULL with a length.
    pub(crate) fn bytes(&self) -> Result<&'c [u8], Rv> {
        self.0.get().map_err(|_| CKR_MECHANISM_PARAM_INVALID)
    }

    fn structure<T: Plain>(&self) -> Result<T, Rv> {
        let bytes = self.bytes()?;
        if bytes.len() != size_of::<T>() {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: as many readable bytes as the structure has, which is valid for any of them (`Plain`).
        Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    /// Bytes that a structure points at.
    fn inner(&self, start: *const u8, len: u64) -> InBytes<'c> {
        // SAFETY: the maker of the parameter vouched for the pointers in its structure.
        unsafe { InBytes::at(start, len) }
    }

    /// Room that a structure points at.
    fn place(&self, start: *mut u8, len: u64) -> OutExact<'c> {
        // SAFETY: as for `inner`; PKCS#11 lets these be written.
        unsafe { OutExact::at(start, len) }
    }

    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`, here and in the methods below: not the length of the structure.
    pub(crate) fn pss(&self) -> Result<Pss, Rv> {
        let raw: CK_RSA_PKCS_PSS_PARAMS = self.structure()?;
        Ok(Pss { hash: raw.hashAlg, mgf: raw.mgf, salt_len: raw.sLen })
    }

    pub(crate) fn oaep(&self) -> Result<Oaep<'c>, Rv> {
        Ok(self.oaep_of(&self.structure()?))
    }

    fn oaep_of(&self, raw: &CK_RSA_PKCS_OAEP_PARAMS) -> Oaep<'c> {
        let label = self.inner(raw.pSourceData.cast(), raw.ulSourceDataLen);
        Oaep { hash: raw.hashAlg, mgf: raw.mgf, source: raw.source, label }
    }

    /// The length of the AES key in bits, and the parameters of its encryption.
    pub(crate) fn rsa_aes_wrap(&self) -> Result<(u64, Oaep<'c>), Rv> {
        let raw: CK_RSA_AES_KEY_WRAP_PARAMS = self.structure()?;
        if raw.pOAEPParams.is_null() {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: the maker of the parameter vouched for the pointers in its structure; this one leads to a plain structure.
        let oaep = unsafe { raw.pOAEPParams.read_unaligned() };
        Ok((raw.ulAESKeyBits, self.oaep_of(&oaep)))
    }

    pub(crate) fn ecdh_aes_wrap(&self) -> Result<EcdhAesWrap<'c>, Rv> {
        let raw: CK_ECDH_AES_KEY_WRAP_PARAMS = self.structure()?;
        let shared = self.inner(raw.pSharedData, raw.ulSharedDataLen);
        Ok(EcdhAesWrap { aes_bits: raw.ulAESKeyBits, kdf: raw.kdf, shared })
    }

    pub(crate) fn gcm(&self) -> Result<Gcm<'c>, Rv> {
        if self.0.len() == size_of::<OldGcm>() as u64 {
            let raw: OldGcm = self.structure()?;
            let (iv, aad) = (self.inner(raw.iv, raw.iv_len), self.inner(raw.aad, raw.aad_len));
            return Ok(Gcm { iv, iv_bits: 0, aad, tag_bits: raw.tag_bits });
        }
        let raw: CK_GCM_PARAMS = self.structure()?;
        let (iv, aad) = (self.inner(raw.pIv, raw.ulIvLen), self.inner(raw.pAAD, raw.ulAADLen));
        Ok(Gcm { iv, iv_bits: raw.ulIvBits, aad, tag_bits: raw.ulTagBits })
    }

    pub(crate) fn gcm_message(&self) -> Result<AeadMessage<'c>, Rv> {
        let raw: CK_GCM_MESSAGE_PARAMS = self.structure()?;
        let tag_len = raw.ulTagBits.div_ceil(8);
        Ok(AeadMessage {
            iv: self.inner(raw.pIv, raw.ulIvLen),
            iv_place: self.place(raw.pIv, raw.ulIvLen),
            fixed_bits: raw.ulIvFixedBits,
            generator: raw.ivGenerator,
            tag: self.inner(raw.pTag, tag_len),
            tag_place: self.place(raw.pTag, tag_len),
            tag_bits: raw.ulTagBits,
            data_len: 0,
        })
    }

    pub(crate) fn ccm_message(&self) -> Result<AeadMessage<'c>, Rv> {
        let raw: CK_CCM_MESSAGE_PARAMS = self.structure()?;
        Ok(AeadMessage {
            iv: self.inner(raw.pNonce, raw.ulNonceLen),
            iv_place: self.place(raw.pNonce, raw.ulNonceLen),
            fixed_bits: raw.ulNonceFixedBits,
            generator: raw.nonceGenerator,
            tag: self.inner(raw.pMAC, raw.ulMACLen),
            tag_place: self.place(raw.pMAC, raw.ulMACLen),
            tag_bits: raw.ulMACLen.saturating_mul(8),
            data_len: raw.ulDataLen,
        })
    }

    /// Whether the parameter has the length of CK_GCM_MESSAGE_PARAMS.
    pub(crate) fn is_gcm_message(&self) -> bool {
        self.has_room_of::<CK_GCM_MESSAGE_PARAMS>()
    }

    /// Whether the parameter has the length of CK_CCM_MESSAGE_PARAMS.
    pub(crate) fn is_ccm_message(&self) -> bool {
        self.has_room_of::<CK_CCM_MESSAGE_PARAMS>()
    }

    fn has_room_of<T: Plain>(&self) -> bool {
        self.0.len() == size_of::<T>() as u64 && !self.0.is_null()
    }

    pub(crate) fn ctr(&self) -> Result<Ctr, Rv> {
        let raw: CK_AES_CTR_PARAMS = self.structure()?;
        Ok(Ctr { counter_bits: raw.ulCounterBits, block: raw.cb })
    }

    pub(crate) fn ecdh1(&self) -> Result<Ecdh1<'c>, Rv> {
        let raw: CK_ECDH1_DERIVE_PARAMS = self.structure()?;
        let shared = self.inner(raw.pSharedData, raw.ulSharedDataLen);
        let public = self.inner(raw.pPublicData, raw.ulPublicDataLen);
        Ok(Ecdh1 { kdf: raw.kdf, shared, public })
    }

    pub(crate) fn eddsa(&self) -> Result<EdDsa<'c>, Rv> {
        let raw: CK_EDDSA_PARAMS = self.structure()?;
        Ok(EdDsa { prehash: raw.phFlag != 0, context: self.inner(raw.pContextData, raw.ulContextDataLen) })
    }

    pub(crate) fn sign_context(&self) -> Result<SignContext<'c>, Rv> {
        let raw: CK_SIGN_ADDITIONAL_CONTEXT = self.structure()?;
        Ok(SignContext { hedge: raw.hedgeVariant, context: self.inner(raw.pContext, raw.ulContextLen) })
    }

    /// Hedge and context, and the number of the hash.
    pub(crate) fn hash_sign_context(&self) -> Result<(SignContext<'c>, u64), Rv> {
        let raw: CK_HASH_SIGN_ADDITIONAL_CONTEXT = self.structure()?;
        let context = self.inner(raw.pContext, raw.ulContextLen);
        Ok((SignContext { hedge: raw.hedgeVariant, context }, raw.hash))
    }

    /// A `CK_ULONG` (CK_MAC_GENERAL_PARAMS).
    pub(crate) fn ulong(&self) -> Result<u64, Rv> {
        self.bytes()?.try_into().map(u64::from_ne_bytes).map_err(|_| CKR_MECHANISM_PARAM_INVALID)
    }
}
