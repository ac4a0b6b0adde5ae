//! The C functions that vectors are driven through: any mechanism with any parameter, any template, one call per case. Like
//! `raw`, a room with `unsafe` whose methods are safe to call with any values.

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE,
    CK_SLOT_ID, CK_ULONG, CKR_OK,
};

use super::{Output, Raw, Room, done, len, output, with_parameter};

/// A mechanism's parameter: nothing, bytes, or a structure of words some of which point at bytes that it owns.
#[derive(Debug, Default)]
pub struct Parameter {
    words: Vec<CK_ULONG>,
    bytes: Vec<u8>,
    /// What `words` point at: moved with the parameter, never changed.
    owned: Vec<Vec<u8>>,
}

impl Parameter {
    /// No parameter.
    pub fn none() -> Parameter {
        Parameter::default()
    }

    /// Bytes, such as an initialisation vector.
    pub fn bytes(bytes: &[u8]) -> Parameter {
        Parameter { bytes: bytes.to_vec(), ..Parameter::default() }
    }

    /// A structure that begins with these words.
    pub fn words(words: &[CK_ULONG]) -> Parameter {
        Parameter { words: words.to_vec(), ..Parameter::default() }
    }

    /// Then one more word.
    pub fn word(mut self, word: CK_ULONG) -> Parameter {
        self.words.push(word);
        self
    }

    /// Then a pointer to bytes (NULL when there are none) and their length.
    pub fn pointer_len(self, bytes: &[u8]) -> Parameter {
        self.pointer(bytes).word(len(bytes))
    }

    /// Then the length of bytes and a pointer to them.
    pub fn len_pointer(self, bytes: &[u8]) -> Parameter {
        self.word(len(bytes)).pointer(bytes)
    }

    fn pointer(mut self, bytes: &[u8]) -> Parameter {
        let copy = bytes.to_vec();
        let address = if copy.is_empty() { 0 } else { copy.as_ptr().expose_provenance() };
        self.owned.push(copy);
        self.word(CK_ULONG::try_from(address).expect("CK_ULONG is as wide as a pointer here"))
    }

    fn mechanism(&mut self, mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
        if self.bytes.is_empty() {
            return with_parameter(mechanism, &mut self.words);
        }
        CK_MECHANISM { mechanism, pParameter: self.bytes.as_mut_ptr().cast(), ulParameterLen: len(&self.bytes) }
    }
}

/// A template: attributes with their values as C sees them.
#[derive(Debug, Default, Clone)]
pub struct Template(Vec<(CK_ULONG, Vec<u8>)>);

impl Template {
    /// One attribute more, with a number.
    pub fn number(self, attribute: CK_ULONG, value: CK_ULONG) -> Template {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    /// One attribute more, with a truth value.
    pub fn flag(self, attribute: CK_ULONG, value: bool) -> Template {
        self.bytes(attribute, &[u8::from(value)])
    }

    /// One attribute more, with bytes.
    pub fn bytes(mut self, attribute: CK_ULONG, value: &[u8]) -> Template {
        self.0.push((attribute, value.to_vec()));
        self
    }

    fn rows(&mut self) -> Vec<CK_ATTRIBUTE> {
        let row = |(kind, value): &mut (CK_ULONG, Vec<u8>)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: len(value),
        };
        self.0.iter_mut().map(row).collect()
    }
}

/// The calls that vectors are driven through: every mechanism, every parameter, both directions.
impl Raw {
    /// C_GetMechanismInfo: smallest key, largest key, flags.
    ///
    /// # Errors
    /// The CKR.
    pub fn mechanism_info(
        &self,
        slot: CK_SLOT_ID,
        mechanism: CK_MECHANISM_TYPE,
    ) -> Result<(CK_ULONG, CK_ULONG, CK_ULONG), CK_RV> {
        let mut info = CK_MECHANISM_INFO::default();
        // SAFETY: `info` lives through the call.
        done(unsafe { self.module.C_GetMechanismInfo(slot, mechanism, &mut info) })?;
        Ok((info.ulMinKeySize, info.ulMaxKeySize, info.flags))
    }

    /// C_CreateObject.
    ///
    /// # Errors
    /// The CKR.
    pub fn create_object(&self, session: CK_SESSION_HANDLE, mut template: Template) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut rows, mut object) = (template.rows(), 0);
        // SAFETY: the rows and their values live through the call.
        done(unsafe { self.module.C_CreateObject(session, rows.as_mut_ptr(), rows.len() as CK_ULONG, &mut object) })?;
        Ok(object)
    }

    /// C_GenerateKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn generate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut mechanism, mut rows, mut object) = (parameter.mechanism(mechanism), template.rows(), 0);
        let count = rows.len() as CK_ULONG;
        // SAFETY: mechanism, parameter, rows and values live through the call.
        done(unsafe { self.module.C_GenerateKey(session, &mut mechanism, rows.as_mut_ptr(), count, &mut object) })?;
        Ok(object)
    }

    /// C_DeriveKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn derive_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        base: CK_OBJECT_HANDLE,
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut mechanism, mut rows, mut object) = (parameter.mechanism(mechanism), template.rows(), 0);
        let (first, count) = (rows.as_mut_ptr(), rows.len() as CK_ULONG);
        // SAFETY: mechanism, parameter, rows and values live through the call.
        done(unsafe { self.module.C_DeriveKey(session, &mut mechanism, base, first, count, &mut object) })?;
        Ok(object)
    }

    /// C_UnwrapKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn unwrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let mut parameter = Parameter::none();
        let (mut mechanism, mut rows, mut object) = (parameter.mechanism(mechanism), template.rows(), 0);
        let (first, count, mut wrapped) = (rows.as_mut_ptr(), rows.len() as CK_ULONG, wrapped.to_vec());
        let (bytes, bytes_len) = (wrapped.as_mut_ptr(), len(&wrapped));
        // SAFETY: mechanism, bytes, rows and values live through the call.
        done(unsafe {
            self.module.C_UnwrapKey(session, &mut mechanism, key, bytes, bytes_len, first, count, &mut object)
        })?;
        Ok(object)
    }

    /// C_WrapKey with a mechanism that takes no parameter.
    pub fn wrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
    ) -> Output {
        let mut parameter = Parameter::none();
        let mut mechanism = parameter.mechanism(mechanism);
        output(Room::Bytes(4096), |out, out_len| {
            // SAFETY: `out` has `*out_len` bytes.
            unsafe { self.module.C_WrapKey(session, &mut mechanism, wrapping, key, out, out_len) }
        })
    }

    /// C_DecapsulateKey.
    ///
    /// # Errors
    /// The CKR.
    pub fn decapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
        ciphertext: &[u8],
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let mut parameter = Parameter::none();
        let (mut mechanism, mut rows, mut object) = (parameter.mechanism(mechanism), template.rows(), 0);
        let (first, count, mut text) = (rows.as_mut_ptr(), rows.len() as CK_ULONG, ciphertext.to_vec());
        let (bytes, bytes_len) = (text.as_mut_ptr(), len(&text));
        // SAFETY: mechanism, bytes, rows and values live through the call.
        done(unsafe {
            self.module.C_DecapsulateKey(session, &mut mechanism, key, first, count, bytes, bytes_len, &mut object)
        })?;
        Ok(object)
    }

    /// C_EncapsulateKey: the ciphertext and the key.
    ///
    /// # Errors
    /// The CKR.
    pub fn encapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        key: CK_OBJECT_HANDLE,
        mut template: Template,
    ) -> Result<(Vec<u8>, CK_OBJECT_HANDLE), CK_RV> {
        let mut parameter = Parameter::none();
        let (mut mechanism, mut rows, mut object) = (parameter.mechanism(mechanism), template.rows(), 0);
        let (first, count) = (rows.as_mut_ptr(), rows.len() as CK_ULONG);
        let done = output(Room::Bytes(4096), |out, out_len| {
            // SAFETY: mechanism, rows and values live through the call; `out` has `*out_len` bytes.
            unsafe {
                self.module.C_EncapsulateKey(session, &mut mechanism, key, first, count, out, out_len, &mut object)
            }
        });
        if done.rv == CKR_OK { Ok((done.bytes, object)) } else { Err(done.rv) }
    }

    /// C_SignInit and C_Sign.
    pub fn sign_once(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Output {
        let mut mechanism = parameter.mechanism(mechanism);
        // SAFETY: mechanism and parameter live through the call.
        let rv = unsafe { self.module.C_SignInit(session, &mut mechanism, key) };
        if rv == CKR_OK { self.sign(session, data, Room::Bytes(ROOMY)) } else { failed(rv) }
    }

    /// C_VerifyInit and C_Verify.
    pub fn verify_once(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        signature: &[u8],
    ) -> CK_RV {
        let mut mechanism = parameter.mechanism(mechanism);
        // SAFETY: mechanism and parameter live through the call.
        let rv = unsafe { self.module.C_VerifyInit(session, &mut mechanism, key) };
        if rv == CKR_OK { self.verify(session, data, signature) } else { rv }
    }

    /// C_EncryptInit and C_Encrypt.
    pub fn encrypt_once(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Output {
        let mut mechanism = parameter.mechanism(mechanism);
        // SAFETY: mechanism and parameter live through the call.
        let rv = unsafe { self.module.C_EncryptInit(session, &mut mechanism, key) };
        if rv == CKR_OK { self.encrypt(session, data, Room::Bytes(data.len() + ROOMY)) } else { failed(rv) }
    }

    /// C_DecryptInit and C_Decrypt.
    pub fn decrypt_once(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Parameter,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
    ) -> Output {
        let mut mechanism = parameter.mechanism(mechanism);
        // SAFETY: mechanism and parameter live through the call.
        let rv = unsafe { self.module.C_DecryptInit(session, &mut mechanism, key) };
        if rv != CKR_OK {
            return failed(rv);
        }
        let mut data = data.to_vec();
        output(Room::Bytes(data.len() + ROOMY), |out, out_len| {
            // SAFETY: `data` has the stated length; `out` has `*out_len` bytes.
            unsafe { self.module.C_Decrypt(session, data.as_mut_ptr(), len(&data), out, out_len) }
        })
    }
}

/// Room for whatever a vector can give.
const ROOMY: usize = 8192;

fn failed(rv: CK_RV) -> Output {
    Output { rv, len: 0, bytes: Vec::new() }
}
