//! The parameter structures of derivations: arrays inside them, and the places where C_DeriveKey writes results back.
#![expect(unsafe_code, reason = "C structures with pointers in them are read and written here")]

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_MECHANISM_PARAM_INVALID};
use cryptoki_sys::{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS, CK_CCM_PARAMS, CK_DERIVED_KEY, CK_HKDF_PARAMS, CK_KEY_DERIVATION_STRING_DATA,
    CK_PKCS5_PBKD2_PARAMS2, CK_PRF_DATA_PARAM, CK_SP800_108_COUNTER_FORMAT, CK_SP800_108_DKM_LENGTH_FORMAT,
    CK_SP800_108_FEEDBACK_KDF_PARAMS, CK_SP800_108_KDF_PARAMS, CK_SSL3_KEY_MAT_OUT, CK_SSL3_RANDOM_DATA,
    CK_TLS_KDF_PARAMS, CK_TLS_MAC_PARAMS, CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS, CK_TLS12_KEY_MAT_PARAMS,
    CK_TLS12_MASTER_KEY_DERIVE_PARAMS, CK_ULONG, CK_VERSION,
};

use super::{Parameter, Plain};
use crate::ffi::claim::{InBytes, Out, Template};
use crate::ffi::memory::{Access, is_usable};

// SAFETY (all): C structures of integers and raw pointers.
unsafe impl Plain for CK_CCM_PARAMS {}
unsafe impl Plain for CK_AES_CBC_ENCRYPT_DATA_PARAMS {}
unsafe impl Plain for CK_KEY_DERIVATION_STRING_DATA {}
unsafe impl Plain for CK_HKDF_PARAMS {}
unsafe impl Plain for CK_SP800_108_KDF_PARAMS {}
unsafe impl Plain for CK_SP800_108_FEEDBACK_KDF_PARAMS {}
unsafe impl Plain for CK_SP800_108_COUNTER_FORMAT {}
unsafe impl Plain for CK_SP800_108_DKM_LENGTH_FORMAT {}
unsafe impl Plain for CK_PRF_DATA_PARAM {}
unsafe impl Plain for CK_DERIVED_KEY {}
unsafe impl Plain for CK_PKCS5_PBKD2_PARAMS2 {}
unsafe impl Plain for CK_TLS12_MASTER_KEY_DERIVE_PARAMS {}
unsafe impl Plain for CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS {}
unsafe impl Plain for CK_TLS12_KEY_MAT_PARAMS {}
unsafe impl Plain for CK_TLS_KDF_PARAMS {}
unsafe impl Plain for CK_TLS_MAC_PARAMS {}
unsafe impl Plain for CK_SSL3_KEY_MAT_OUT {}
unsafe impl Plain for CK_ULONG {}

/// The most elements of an array within a parameter.
const MAX_ELEMENTS: CK_ULONG = 256;

/// CK_CCM_PARAMS.
pub(crate) struct Ccm<'c> {
    pub(crate) data_len: u64,
    pub(crate) nonce: InBytes<'c>,
    pub(crate) aad: InBytes<'c>,
    pub(crate) mac_len: u64,
}

/// CK_AES_CBC_ENCRYPT_DATA_PARAMS.
pub(crate) struct CbcData<'c> {
    pub(crate) iv: [u8; 16],
    pub(crate) data: InBytes<'c>,
}

/// CK_HKDF_PARAMS.
pub(crate) struct Hkdf<'c> {
    pub(crate) extract: bool,
    pub(crate) expand: bool,
    pub(crate) hash: u64,
    pub(crate) salt_type: u64,
    pub(crate) salt: InBytes<'c>,
    pub(crate) salt_key: u64,
    pub(crate) info: InBytes<'c>,
}

/// How a number is written: CK_SP800_108_COUNTER_FORMAT.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    pub(crate) little_endian: bool,
    pub(crate) width_bits: u64,
}

/// CK_PRF_DATA_PARAM: its type, and its value as yet unread.
pub(crate) struct Field<'c> {
    pub(crate) kind: u64,
    value: Parameter<'c>,
}

/// CK_SP800_108_KDF_PARAMS and CK_SP800_108_FEEDBACK_KDF_PARAMS.
pub(crate) struct Kbkdf<'c> {
    pub(crate) prf: u64,
    pub(crate) fields: Vec<Field<'c>>,
    pub(crate) iv: Option<InBytes<'c>>,
    pub(crate) additional: Vec<DerivedKey<'c>>,
}

/// CK_DERIVED_KEY.
pub(crate) struct DerivedKey<'c> {
    pub(crate) template: Template<'c>,
    pub(crate) place: Out<'c, CK_ULONG>,
}

/// CK_PKCS5_PBKD2_PARAMS and CK_PKCS5_PBKD2_PARAMS2.
pub(crate) struct Pbkdf2<'c> {
    pub(crate) salt_source: u64,
    pub(crate) salt: InBytes<'c>,
    pub(crate) iterations: u64,
    pub(crate) prf: u64,
    pub(crate) prf_data: InBytes<'c>,
    pub(crate) password: InBytes<'c>,
}

/// CK_SSL3_RANDOM_DATA.
pub(crate) struct Randoms<'c> {
    pub(crate) client: InBytes<'c>,
    pub(crate) server: InBytes<'c>,
}

/// CK_TLS12_MASTER_KEY_DERIVE_PARAMS.
pub(crate) struct TlsMaster<'c> {
    pub(crate) hash: u64,
    pub(crate) randoms: Randoms<'c>,
    pub(crate) version: Out<'c, CK_VERSION>,
}

/// CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS.
pub(crate) struct TlsExtendedMaster<'c> {
    pub(crate) hash: u64,
    pub(crate) session_hash: InBytes<'c>,
    pub(crate) version: Out<'c, CK_VERSION>,
}

/// CK_TLS12_KEY_MAT_PARAMS.
pub(crate) struct TlsKeys<'c> {
    pub(crate) mac_bits: u64,
    pub(crate) key_bits: u64,
    pub(crate) iv_bits: u64,
    pub(crate) export: bool,
    pub(crate) randoms: Randoms<'c>,
    pub(crate) hash: u64,
    material: *mut CK_SSL3_KEY_MAT_OUT,
}

/// CK_TLS_KDF_PARAMS.
pub(crate) struct TlsKdf<'c> {
    pub(crate) hash: u64,
    pub(crate) label: InBytes<'c>,
    pub(crate) randoms: Randoms<'c>,
    pub(crate) context: InBytes<'c>,
}

/// CK_TLS_MAC_PARAMS.
pub(crate) struct TlsMac {
    pub(crate) hash: u64,
    pub(crate) len: u64,
    pub(crate) side: u64,
}

/// The CK_SSL3_KEY_MAT_OUT of a caller: places for four handles and two IVs.
pub(crate) struct KeyMaterial<'c> {
    place: *mut CK_SSL3_KEY_MAT_OUT,
    ivs: [*mut u8; 2],
    iv_len: usize,
    // The claim lasts as long as the parameter that it is part of.
    _call: Out<'c, CK_ULONG>,
}

impl<'c> TlsKeys<'c> {
    /// The places, which must be there before anything is derived; none for IVs when none are asked.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`.
    pub(crate) fn material(&self, with_ivs: bool) -> Result<KeyMaterial<'c>, Rv> {
        if self.material.is_null() {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: not NULL, and the maker of the parameter vouched for the pointers in its structure.
        let raw = unsafe { self.material.read_unaligned() };
        let iv_len = if with_ivs { self.iv_bits / 8 } else { 0 };
        let iv_len = usize::try_from(iv_len).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
        let ivs = [raw.pIVClient, raw.pIVServer];
        if iv_len > 0 && ivs.iter().any(|iv| iv.is_null()) {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: NULL is never written to.
        let call = unsafe { Out::at(std::ptr::null_mut()) };
        Ok(KeyMaterial { place: self.material, ivs, iv_len, _call: call })
    }
}

impl KeyMaterial<'_> {
    /// Writes the handles (client's and server's MAC key, client's and server's cipher key) and the IVs.
    ///
    /// # Errors
    /// `CKR_ARGUMENTS_BAD` for IVs of another length than was asked; nothing is written then.
    pub(crate) fn put(self, handles: [CK_ULONG; 4], ivs: [&[u8]; 2]) -> Result<(), Rv> {
        if ivs.iter().any(|iv| iv.len() != self.iv_len) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // SAFETY: the structure is there (checked by `material`); its fields are written in place, the pointers stay.
        unsafe {
            (&raw mut (*self.place).hClientMacSecret).write_unaligned(handles[0]);
            (&raw mut (*self.place).hServerMacSecret).write_unaligned(handles[1]);
            (&raw mut (*self.place).hClientKey).write_unaligned(handles[2]);
            (&raw mut (*self.place).hServerKey).write_unaligned(handles[3]);
        }
        for (to, iv) in self.ivs.into_iter().zip(ivs).filter(|(_, iv)| !iv.is_empty()) {
            // SAFETY: not NULL (checked by `material`), and room for an IV of the length that the caller asked for.
            unsafe { std::ptr::copy_nonoverlapping(iv.as_ptr(), to, iv.len()) };
        }
        Ok(())
    }
}

impl<'c> Field<'c> {
    /// A format of the counter; nothing where no value is given.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`, here and below: the value has not the length of the structure.
    pub(crate) fn counter(&self) -> Result<Option<Format>, Rv> {
        if self.value.is_none() {
            return Ok(None);
        }
        let raw: CK_SP800_108_COUNTER_FORMAT = self.value.structure()?;
        Ok(Some(Format { little_endian: raw.bLittleEndian != 0, width_bits: raw.ulWidthInBits }))
    }

    /// The method and format of the length.
    pub(crate) fn length(&self) -> Result<(u64, Format), Rv> {
        let raw: CK_SP800_108_DKM_LENGTH_FORMAT = self.value.structure()?;
        let format = Format { little_endian: raw.bLittleEndian != 0, width_bits: raw.ulWidthInBits };
        Ok((raw.dkmLengthMethod, format))
    }

    /// The plain bytes.
    pub(crate) fn bytes(&self) -> InBytes<'c> {
        self.value.0
    }

    /// A key's handle.
    pub(crate) fn key(&self) -> Result<u64, Rv> {
        self.value.ulong()
    }
}

impl<'c> Parameter<'c> {
    /// An array within a structure.
    fn array<T: Plain>(&self, start: *const T, count: CK_ULONG) -> Result<Vec<T>, Rv> {
        if count > MAX_ELEMENTS {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        let bytes = self.inner(start.cast(), count * size_of::<T>() as CK_ULONG);
        let bytes = bytes.get().map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
        // SAFETY: each piece has as many readable bytes as the structure, which is valid for any of them (`Plain`).
        Ok(bytes
            .chunks_exact(size_of::<T>())
            .map(|piece| unsafe { piece.as_ptr().cast::<T>().read_unaligned() })
            .collect())
    }

    fn out<T: Copy>(&self, place: *mut T) -> Out<'c, T> {
        // SAFETY: the maker of the parameter vouched for the pointers in its structure.
        unsafe { Out::at(place) }
    }

    fn randoms(&self, raw: &CK_SSL3_RANDOM_DATA) -> Randoms<'c> {
        Randoms {
            client: self.inner(raw.pClientRandom, raw.ulClientRandomLen),
            server: self.inner(raw.pServerRandom, raw.ulServerRandomLen),
        }
    }

    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`, here and in the methods below: not the length of the structure.
    pub(crate) fn ccm(&self) -> Result<Ccm<'c>, Rv> {
        let raw: CK_CCM_PARAMS = self.structure()?;
        let (nonce, aad) = (self.inner(raw.pNonce, raw.ulNonceLen), self.inner(raw.pAAD, raw.ulAADLen));
        Ok(Ccm { data_len: raw.ulDataLen, nonce, aad, mac_len: raw.ulMACLen })
    }

    pub(crate) fn cbc_data(&self) -> Result<CbcData<'c>, Rv> {
        let raw: CK_AES_CBC_ENCRYPT_DATA_PARAMS = self.structure()?;
        Ok(CbcData { iv: raw.iv, data: self.inner(raw.pData, raw.length) })
    }

    pub(crate) fn string_data(&self) -> Result<InBytes<'c>, Rv> {
        let raw: CK_KEY_DERIVATION_STRING_DATA = self.structure()?;
        Ok(self.inner(raw.pData, raw.ulLen))
    }

    pub(crate) fn hkdf(&self) -> Result<Hkdf<'c>, Rv> {
        let raw: CK_HKDF_PARAMS = self.structure()?;
        Ok(Hkdf {
            extract: raw.bExtract != 0,
            expand: raw.bExpand != 0,
            hash: raw.prfHashMechanism,
            salt_type: raw.ulSaltType,
            salt: self.inner(raw.pSalt, raw.ulSaltLen),
            salt_key: raw.hSaltKey,
            info: self.inner(raw.pInfo, raw.ulInfoLen),
        })
    }

    pub(crate) fn kbkdf(&self) -> Result<Kbkdf<'c>, Rv> {
        let raw: CK_SP800_108_KDF_PARAMS = self.structure()?;
        Ok(Kbkdf {
            prf: raw.prfType,
            fields: self.fields(raw.pDataParams, raw.ulNumberOfDataParams)?,
            iv: None,
            additional: self.derived_keys(raw.pAdditionalDerivedKeys, raw.ulAdditionalDerivedKeys)?,
        })
    }

    pub(crate) fn kbkdf_feedback(&self) -> Result<Kbkdf<'c>, Rv> {
        let raw: CK_SP800_108_FEEDBACK_KDF_PARAMS = self.structure()?;
        Ok(Kbkdf {
            prf: raw.prfType,
            fields: self.fields(raw.pDataParams, raw.ulNumberOfDataParams)?,
            iv: Some(self.inner(raw.pIV, raw.ulIVLen)),
            additional: self.derived_keys(raw.pAdditionalDerivedKeys, raw.ulAdditionalDerivedKeys)?,
        })
    }

    fn fields(&self, start: *const CK_PRF_DATA_PARAM, count: CK_ULONG) -> Result<Vec<Field<'c>>, Rv> {
        let rows = self.array(start, count)?.into_iter();
        Ok(rows
            .map(|row| Field { kind: row.type_, value: Parameter(self.inner(row.pValue.cast(), row.ulValueLen)) })
            .collect())
    }

    fn derived_keys(&self, start: *const CK_DERIVED_KEY, count: CK_ULONG) -> Result<Vec<DerivedKey<'c>>, Rv> {
        let rows = self.array(start, count)?.into_iter();
        // SAFETY: the maker of the parameter vouched for the templates in its structure.
        let template = |row: &CK_DERIVED_KEY| unsafe { Template::at(row.pTemplate, row.ulAttributeCount) };
        Ok(rows.map(|row| DerivedKey { template: template(&row), place: self.out(row.phKey) }).collect())
    }

    /// The two structures have the same members but the last: a length in the newer, a pointer at one in the older. They are
    /// told apart by that word: no address is as small as a password is long, and a word that is neither such a length nor
    /// the address of readable memory is refused.
    pub(crate) fn pbkdf2(&self) -> Result<Pbkdf2<'c>, Rv> {
        let raw: CK_PKCS5_PBKD2_PARAMS2 = self.structure()?;
        let password_len = match raw.ulPasswordLen {
            len @ 0..LOWEST_ADDRESS => len,
            address if is_usable(address, size_of::<CK_ULONG>() as u64, Access::Read) == Some(true) => {
                let place = std::ptr::with_exposed_provenance::<CK_ULONG>(
                    usize::try_from(address).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?,
                );
                // SAFETY: the word is an address at which this process has readable memory; reads need no alignment.
                unsafe { place.read_unaligned() }
            }
            _ => return Err(CKR_MECHANISM_PARAM_INVALID),
        };
        Ok(Pbkdf2 {
            salt_source: raw.saltSource,
            salt: self.inner(raw.pSaltSourceData.cast(), raw.ulSaltSourceDataLen),
            iterations: raw.iterations,
            prf: raw.prf,
            prf_data: self.inner(raw.pPrfData.cast(), raw.ulPrfDataLen),
            password: self.inner(raw.pPassword, password_len),
        })
    }

    pub(crate) fn tls_master(&self) -> Result<TlsMaster<'c>, Rv> {
        let raw: CK_TLS12_MASTER_KEY_DERIVE_PARAMS = self.structure()?;
        let (randoms, version) = (self.randoms(&raw.RandomInfo), self.out(raw.pVersion));
        Ok(TlsMaster { hash: raw.prfHashMechanism, randoms, version })
    }

    pub(crate) fn tls_extended_master(&self) -> Result<TlsExtendedMaster<'c>, Rv> {
        let raw: CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS = self.structure()?;
        let session_hash = self.inner(raw.pSessionHash, raw.ulSessionHashLen);
        Ok(TlsExtendedMaster { hash: raw.prfHashMechanism, session_hash, version: self.out(raw.pVersion) })
    }

    pub(crate) fn tls_keys(&self) -> Result<TlsKeys<'c>, Rv> {
        let raw: CK_TLS12_KEY_MAT_PARAMS = self.structure()?;
        Ok(TlsKeys {
            mac_bits: raw.ulMacSizeInBits,
            key_bits: raw.ulKeySizeInBits,
            iv_bits: raw.ulIVSizeInBits,
            export: raw.bIsExport != 0,
            randoms: self.randoms(&raw.RandomInfo),
            hash: raw.prfHashMechanism,
            material: raw.pReturnedKeyMaterial,
        })
    }

    pub(crate) fn tls_kdf(&self) -> Result<TlsKdf<'c>, Rv> {
        let raw: CK_TLS_KDF_PARAMS = self.structure()?;
        Ok(TlsKdf {
            hash: raw.prfMechanism,
            label: self.inner(raw.pLabel, raw.ulLabelLength),
            randoms: self.randoms(&raw.RandomInfo),
            context: self.inner(raw.pContextData, raw.ulContextDataLength),
        })
    }

    pub(crate) fn tls_mac(&self) -> Result<TlsMac, Rv> {
        let raw: CK_TLS_MAC_PARAMS = self.structure()?;
        Ok(TlsMac { hash: raw.prfHashMechanism, len: raw.ulMacLength, side: raw.ulServerOrClient })
    }
}

/// Linux maps nothing below this address (vm.mmap_min_addr), and no password is as long.
const LOWEST_ADDRESS: u64 = 65536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn both_password_structures_are_read_and_nothing_else_is_followed() {
        let (mut password, mut salt) = (*b"password", *b"salt");
        let mut len: CK_ULONG = 8;
        let in_place = (&raw mut len).expose_provenance() as CK_ULONG;
        let rows = [
            (8, Ok(8)),
            (0, Ok(0)),
            (in_place, Ok(8)),
            (LOWEST_ADDRESS, Err(CKR_MECHANISM_PARAM_INVALID)),
            (1 << 40, Err(CKR_MECHANISM_PARAM_INVALID)),
            (u64::from(u32::MAX), Err(CKR_MECHANISM_PARAM_INVALID)),
            (CK_ULONG::MAX, Err(CKR_MECHANISM_PARAM_INVALID)),
        ];
        for (word, expected) in rows {
            let raw = CK_PKCS5_PBKD2_PARAMS2 {
                saltSource: 1,
                pSaltSourceData: salt.as_mut_ptr().cast(),
                ulSaltSourceDataLen: 4,
                iterations: 1,
                prf: 4,
                pPrfData: ptr::null_mut(),
                ulPrfDataLen: 0,
                pPassword: password.as_mut_ptr(),
                ulPasswordLen: word,
            };
            // SAFETY: a structure of this function, with its true length.
            let parameter = unsafe { Parameter::at((&raw const raw).cast(), size_of_val(&raw) as u64) };
            assert_eq!(parameter.pbkdf2().map(|read| read.password.len()), expected, "{word:#x}");
        }
    }
}
