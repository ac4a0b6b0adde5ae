//! Objects and keys by the C functions: any template, any mechanism with any parameter, any handle. What a binding would not send is
//! sent here.

use std::ptr;

use cryptoki_sys::{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS, CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_ECDH1_DERIVE_PARAMS, CK_GCM_PARAMS,
    CK_KEY_DERIVATION_STRING_DATA, CK_MECHANISM, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RSA_AES_KEY_WRAP_PARAMS,
    CK_RSA_PKCS_OAEP_PARAMS, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CKR_OK, CKZ_DATA_SPECIFIED,
};

use super::{Output, Raw, Room, done, len, output};

/// A template: attribute types and the bytes of their values.
pub type Template = Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>;

/// The bytes of a CK_ULONG.
pub fn number(value: impl TryInto<CK_ULONG>) -> Vec<u8> {
    let Ok(value) = value.try_into() else { panic!("the number is no CK_ULONG") };
    CK_ULONG::to_ne_bytes(value).to_vec()
}

/// The byte of a CK_BBOOL.
pub fn flag(value: bool) -> Vec<u8> {
    vec![u8::from(value)]
}

/// The parameter of a mechanism.
#[derive(Debug, Clone)]
pub enum Parameter {
    /// None.
    None,
    /// Plain bytes: an IV, a number, a handle.
    Bytes(Vec<u8>),
    /// CK_GCM_PARAMS: IV and length of the tag in bits.
    Gcm(Vec<u8>, CK_ULONG),
    /// CK_RSA_PKCS_OAEP_PARAMS without a label: hash and mask generation function.
    Oaep(CK_MECHANISM_TYPE, CK_ULONG),
    /// CK_RSA_AES_KEY_WRAP_PARAMS: bits of the AES key, hash and mask generation function.
    RsaAes(CK_ULONG, CK_MECHANISM_TYPE, CK_ULONG),
    /// CK_ECDH1_DERIVE_PARAMS without shared data: key derivation function and the other's point.
    Ecdh(CK_ULONG, Vec<u8>),
    /// CK_KEY_DERIVATION_STRING_DATA.
    StringData(Vec<u8>),
    /// CK_AES_CBC_ENCRYPT_DATA_PARAMS: IV and data.
    CbcData([u8; 16], Vec<u8>),
}

/// A mechanism and its parameter.
#[derive(Debug, Clone)]
pub struct Call {
    /// CKM number.
    pub mechanism: CK_MECHANISM_TYPE,
    /// Parameter.
    pub parameter: Parameter,
}

impl Call {
    /// A mechanism without a parameter.
    pub fn plain(mechanism: CK_MECHANISM_TYPE) -> Call {
        Call { mechanism, parameter: Parameter::None }
    }

    /// A mechanism with an IV or other plain bytes.
    pub fn with(mechanism: CK_MECHANISM_TYPE, bytes: &[u8]) -> Call {
        Call { mechanism, parameter: Parameter::Bytes(bytes.to_vec()) }
    }

    /// Makes the C structures for the time of one call.
    fn lend<T>(&self, call: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
        let lent = |parameter: *mut u8, parameter_len: usize| {
            let ul_parameter_len = CK_ULONG::try_from(parameter_len).expect("a parameter is small");
            CK_MECHANISM { mechanism: self.mechanism, pParameter: parameter.cast(), ulParameterLen: ul_parameter_len }
        };
        match &self.parameter {
            Parameter::None => call(&mut lent(ptr::null_mut(), 0)),
            Parameter::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                call(&mut lent(bytes.as_mut_ptr(), bytes.len()))
            }
            Parameter::Gcm(iv, tag_bits) => {
                let mut iv = iv.clone();
                let mut params = CK_GCM_PARAMS {
                    pIv: iv.as_mut_ptr(),
                    ulIvLen: len(&iv),
                    ulIvBits: 8 * len(&iv),
                    pAAD: ptr::null_mut(),
                    ulAADLen: 0,
                    ulTagBits: *tag_bits,
                };
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
            Parameter::Oaep(hash, mgf) => {
                let mut params = oaep(*hash, *mgf);
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
            Parameter::RsaAes(bits, hash, mgf) => {
                let mut inner = oaep(*hash, *mgf);
                let mut params = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: *bits, pOAEPParams: &mut inner };
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
            Parameter::Ecdh(kdf, point) => {
                let mut point = point.clone();
                let mut params = CK_ECDH1_DERIVE_PARAMS {
                    kdf: *kdf,
                    ulSharedDataLen: 0,
                    pSharedData: ptr::null_mut(),
                    ulPublicDataLen: len(&point),
                    pPublicData: point.as_mut_ptr(),
                };
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
            Parameter::StringData(data) => {
                let mut data = data.clone();
                let mut params = CK_KEY_DERIVATION_STRING_DATA { pData: data.as_mut_ptr(), ulLen: len(&data) };
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
            Parameter::CbcData(iv, data) => {
                let mut data = data.clone();
                let mut params =
                    CK_AES_CBC_ENCRYPT_DATA_PARAMS { iv: *iv, pData: data.as_mut_ptr(), length: len(&data) };
                call(&mut lent(ptr::from_mut(&mut params).cast(), size_of_val(&params)))
            }
        }
    }
}

fn oaep(hash: CK_MECHANISM_TYPE, mgf: CK_ULONG) -> CK_RSA_PKCS_OAEP_PARAMS {
    let source = CK_ULONG::from(CKZ_DATA_SPECIFIED);
    CK_RSA_PKCS_OAEP_PARAMS { hashAlg: hash, mgf, source, pSourceData: ptr::null_mut(), ulSourceDataLen: 0 }
}

/// Makes the C form of a template for the time of one call.
fn lend<T>(template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)], call: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> T) -> T {
    let mut values: Vec<Vec<u8>> = template.iter().map(|(_, value)| value.clone()).collect();
    let mut rows: Vec<CK_ATTRIBUTE> = Vec::with_capacity(values.len());
    for ((kind, _), value) in template.iter().zip(&mut values) {
        rows.push(CK_ATTRIBUTE { type_: *kind, pValue: value.as_mut_ptr().cast(), ulValueLen: len(value) });
    }
    let count = CK_ULONG::try_from(rows.len()).expect("a template is small");
    call(rows.as_mut_ptr(), count)
}

type Session = CK_SESSION_HANDLE;
type Handle = CK_OBJECT_HANDLE;

impl Raw {
    /// C_CreateObject.
    ///
    /// # Errors
    /// The CKR, here and below.
    pub fn create(&self, session: Session, template: &Template) -> Result<Handle, CK_RV> {
        let mut made = 0;
        // SAFETY: the template lives through the call; `made` receives the handle.
        done(lend(template, |rows, count| unsafe { self.module.C_CreateObject(session, rows, count, &mut made) }))?;
        Ok(made)
    }

    /// C_CopyObject.
    ///
    /// # Errors
    /// The CKR.
    pub fn copy(&self, session: Session, object: Handle, template: &Template) -> Result<Handle, CK_RV> {
        let mut made = 0;
        // SAFETY: the template lives through the call; `made` receives the handle.
        done(lend(template, |rows, count| unsafe {
            self.module.C_CopyObject(session, object, rows, count, &mut made)
        }))?;
        Ok(made)
    }

    /// C_SetAttributeValue.
    pub fn set(&self, session: Session, object: Handle, template: &Template) -> CK_RV {
        // SAFETY: the template lives through the call.
        lend(template, |rows, count| unsafe { self.module.C_SetAttributeValue(session, object, rows, count) })
    }

    /// The value of one attribute.
    ///
    /// # Errors
    /// The CKR.
    pub fn get(&self, session: Session, object: Handle, attribute: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, CK_RV> {
        let Output { rv, bytes, .. } = self.attribute(session, object, attribute, Room::Bytes(16_384));
        if rv == CKR_OK { Ok(bytes) } else { Err(rv) }
    }

    /// C_GetAttributeValue of several attributes with room for `room` bytes each: the CKR, and per attribute the bytes, or nothing
    /// where the length says "not available".
    pub fn get_all(
        &self,
        session: Session,
        object: Handle,
        attributes: &[CK_ATTRIBUTE_TYPE],
        room: usize,
    ) -> (CK_RV, Vec<Option<Vec<u8>>>) {
        let mut values = vec![vec![0; room]; attributes.len()];
        let mut rows: Vec<CK_ATTRIBUTE> = Vec::new();
        for (kind, value) in attributes.iter().zip(&mut values) {
            rows.push(CK_ATTRIBUTE { type_: *kind, pValue: value.as_mut_ptr().cast(), ulValueLen: len(value) });
        }
        let count = CK_ULONG::try_from(rows.len()).expect("a template is small");
        // SAFETY: every row has a value of the stated length; both live through the call.
        let rv = unsafe { self.module.C_GetAttributeValue(session, object, rows.as_mut_ptr(), count) };
        let read = |(row, mut value): (&CK_ATTRIBUTE, Vec<u8>)| {
            let len = usize::try_from(row.ulValueLen).ok().filter(|len| *len <= value.len())?;
            value.truncate(len);
            Some(value)
        };
        (rv, rows.iter().zip(values).map(read).collect())
    }

    /// C_FindObjectsInit, C_FindObjects for up to 4096 objects, C_FindObjectsFinal.
    ///
    /// # Errors
    /// The CKR.
    pub fn find(&self, session: Session, template: &Template) -> Result<Vec<Handle>, CK_RV> {
        done(self.begin_search(session, template))?;
        let found = self.next_found(session);
        // SAFETY: a handle is a number.
        done(unsafe { self.module.C_FindObjectsFinal(session) })?;
        found
    }

    /// C_FindObjectsInit.
    pub fn begin_search(&self, session: Session, template: &Template) -> CK_RV {
        // SAFETY: the template lives through the call.
        lend(template, |rows, count| unsafe { self.module.C_FindObjectsInit(session, rows, count) })
    }

    /// C_FindObjects for up to 4096 objects.
    ///
    /// # Errors
    /// The CKR.
    pub fn next_found(&self, session: Session) -> Result<Vec<Handle>, CK_RV> {
        let mut found = vec![0; 4096];
        let mut count = 0;
        // SAFETY: `found` has room for 4096 handles.
        done(unsafe { self.module.C_FindObjects(session, found.as_mut_ptr(), 4096, &mut count) })?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found)
    }

    /// C_GenerateKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn generate(&self, session: Session, call: &Call, template: &Template) -> Result<Handle, CK_RV> {
        let mut made = 0;
        done(call.lend(|mechanism| {
            // SAFETY: mechanism and template live through the call; `made` receives the handle.
            lend(template, |rows, count| unsafe {
                self.module.C_GenerateKey(session, mechanism, rows, count, &mut made)
            })
        }))?;
        Ok(made)
    }

    /// C_GenerateKeyPair: public, private.
    ///
    /// # Errors
    /// The CKR.
    pub fn generate_pair(
        &self,
        session: Session,
        call: &Call,
        public: &Template,
        private: &Template,
    ) -> Result<(Handle, Handle), CK_RV> {
        let (mut made_public, mut made_private) = (0, 0);
        done(call.lend(|mechanism| {
            lend(public, |public, public_count| {
                // SAFETY: mechanism and templates live through the call; both handles are received.
                lend(private, |private, private_count| unsafe {
                    self.module.C_GenerateKeyPair(
                        session,
                        mechanism,
                        public,
                        public_count,
                        private,
                        private_count,
                        &mut made_public,
                        &mut made_private,
                    )
                })
            })
        }))?;
        Ok((made_public, made_private))
    }

    /// C_WrapKey with room for 16 KiB.
    ///
    /// # Errors
    /// The CKR.
    pub fn wrap(&self, session: Session, call: &Call, wrapping: Handle, key: Handle) -> Result<Vec<u8>, CK_RV> {
        bytes(call.lend(|mechanism| {
            // SAFETY: the mechanism lives through the call; `out` has `*out_len` bytes.
            output(Room::Bytes(16_384), |out, out_len| unsafe {
                self.module.C_WrapKey(session, mechanism, wrapping, key, out, out_len)
            })
        }))
    }

    /// C_UnwrapKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn unwrap(
        &self,
        session: Session,
        call: &Call,
        unwrapping: Handle,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<Handle, CK_RV> {
        let (mut made, mut wrapped) = (0, wrapped.to_vec());
        let wrapped_len = len(&wrapped);
        done(call.lend(|mechanism| {
            // SAFETY: mechanism, bytes and template live through the call; `made` receives the handle.
            lend(template, |rows, count| unsafe {
                let wrapped = wrapped.as_mut_ptr();
                self.module.C_UnwrapKey(session, mechanism, unwrapping, wrapped, wrapped_len, rows, count, &mut made)
            })
        }))?;
        Ok(made)
    }

    /// C_DeriveKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn derive(&self, session: Session, call: &Call, base: Handle, template: &Template) -> Result<Handle, CK_RV> {
        let mut made = 0;
        done(call.lend(|mechanism| {
            // SAFETY: mechanism and template live through the call; `made` receives the handle.
            lend(template, |rows, count| unsafe {
                self.module.C_DeriveKey(session, mechanism, base, rows, count, &mut made)
            })
        }))?;
        Ok(made)
    }

    /// An Init function on a key.
    pub fn begin(&self, session: Session, use_: Use, call: &Call, key: Handle) -> CK_RV {
        // SAFETY: the mechanism lives through the call.
        call.lend(|mechanism| unsafe {
            match use_ {
                Use::Encrypt => self.module.C_EncryptInit(session, mechanism, key),
                Use::Decrypt => self.module.C_DecryptInit(session, mechanism, key),
                Use::Sign => self.module.C_SignInit(session, mechanism, key),
                Use::Verify => self.module.C_VerifyInit(session, mechanism, key),
                Use::Digest => self.module.C_DigestInit(session, mechanism),
            }
        })
    }

    /// The one-shot function that follows [`Raw::begin`]; a verification needs [`Raw::verify`].
    ///
    /// # Errors
    /// The CKR.
    ///
    /// # Panics
    /// For a verification.
    pub fn whole(&self, session: Session, use_: Use, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
        let mut data = data.to_vec();
        let (start, count) = (data.as_mut_ptr(), len(&data));
        // SAFETY: `data` has the stated length and lives through the call; `out` has `*out_len` bytes.
        bytes(output(Room::Bytes(data.len() + 16_384), |out, out_len| unsafe {
            match use_ {
                Use::Encrypt => self.module.C_Encrypt(session, start, count, out, out_len),
                Use::Decrypt => self.module.C_Decrypt(session, start, count, out, out_len),
                Use::Sign => self.module.C_Sign(session, start, count, out, out_len),
                Use::Digest => self.module.C_Digest(session, start, count, out, out_len),
                Use::Verify => panic!("a verification gives no bytes"),
            }
        }))
    }

    /// Init and the one-shot function.
    ///
    /// # Errors
    /// The CKR of the first that refuses.
    pub fn apply(&self, session: Session, use_: Use, call: &Call, key: Handle, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
        done(self.begin(session, use_, call, key))?;
        self.whole(session, use_, data)
    }

    /// An Update function; what it gives out is dropped.
    ///
    /// # Panics
    /// For a decryption.
    pub fn update(&self, session: Session, use_: Use, data: &[u8]) -> CK_RV {
        let mut data = data.to_vec();
        let (start, count) = (data.as_mut_ptr(), len(&data));
        let (mut out, mut out_len) = (vec![0; data.len() + 64], 0);
        // SAFETY: `data` and `out` have the stated lengths and live through the call.
        unsafe {
            match use_ {
                Use::Encrypt => {
                    out_len += len(&out);
                    self.module.C_EncryptUpdate(session, start, count, out.as_mut_ptr(), &mut out_len)
                }
                Use::Sign => self.module.C_SignUpdate(session, start, count),
                Use::Verify => self.module.C_VerifyUpdate(session, start, count),
                Use::Digest => self.module.C_DigestUpdate(session, start, count),
                Use::Decrypt => panic!("no story needs it"),
            }
        }
    }

    /// Init, an Update for each part, and Final; a verification is not among them.
    ///
    /// # Errors
    /// The CKR of the first that refuses.
    ///
    /// # Panics
    /// For a verification.
    pub fn in_parts(
        &self,
        session: Session,
        use_: Use,
        call: &Call,
        key: Handle,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, CK_RV> {
        done(self.begin(session, use_, call, key))?;
        let mut given = Vec::new();
        for part in parts {
            let mut data = part.to_vec();
            let (start, count) = (data.as_mut_ptr(), len(&data));
            given.extend(bytes(output(Room::Bytes(data.len() + 64), |out, out_len| {
                // SAFETY: `data` has the stated length and lives through the call; `out` has `*out_len` bytes.
                unsafe {
                    if matches!(use_, Use::Sign | Use::Digest) {
                        *out_len = 0;
                    }
                    match use_ {
                        Use::Encrypt => self.module.C_EncryptUpdate(session, start, count, out, out_len),
                        Use::Decrypt => self.module.C_DecryptUpdate(session, start, count, out, out_len),
                        Use::Sign => self.module.C_SignUpdate(session, start, count),
                        Use::Digest => self.module.C_DigestUpdate(session, start, count),
                        Use::Verify => panic!("a verification gives no bytes"),
                    }
                }
            }))?);
        }
        // What is authenticated comes out at the end, all of it.
        let room = Room::Bytes(parts.concat().len() + 512);
        // SAFETY: `out` has `*out_len` bytes.
        given.extend(bytes(output(room, |out, out_len| unsafe {
            match use_ {
                Use::Encrypt => self.module.C_EncryptFinal(session, out, out_len),
                Use::Decrypt => self.module.C_DecryptFinal(session, out, out_len),
                Use::Sign => self.module.C_SignFinal(session, out, out_len),
                Use::Digest => self.module.C_DigestFinal(session, out, out_len),
                Use::Verify => panic!("a verification gives no bytes"),
            }
        }))?);
        Ok(given)
    }

    /// C_DigestKey.
    pub fn digest_key(&self, session: Session, key: Handle) -> CK_RV {
        // SAFETY: handles are numbers.
        unsafe { self.module.C_DigestKey(session, key) }
    }

    /// C_DigestFinal.
    ///
    /// # Errors
    /// The CKR.
    pub fn digest_final(&self, session: Session) -> Result<Vec<u8>, CK_RV> {
        // SAFETY: `out` has `*out_len` bytes.
        bytes(output(Room::Bytes(64), |out, out_len| unsafe { self.module.C_DigestFinal(session, out, out_len) }))
    }

    /// C_InitPIN.
    pub fn init_pin(&self, session: Session, pin: &str) -> CK_RV {
        let mut pin = pin.as_bytes().to_vec();
        // SAFETY: `pin` has the stated length.
        unsafe { self.module.C_InitPIN(session, pin.as_mut_ptr(), len(&pin)) }
    }
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// C_Encrypt*.
    Encrypt,
    /// C_Decrypt*.
    Decrypt,
    /// C_Sign*.
    Sign,
    /// C_Verify*.
    Verify,
    /// C_Digest*.
    Digest,
}

fn bytes(output: Output) -> Result<Vec<u8>, CK_RV> {
    if output.rv == CKR_OK { Ok(output.bytes) } else { Err(output.rv) }
}
