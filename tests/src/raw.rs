//! The C functions themselves, for stories that a well-mannered binding cannot tell: size queries, buffers that are too small, dead
//! handles, NULL arguments, the hot loop of the benchmark. The only room of this crate with `unsafe`; its methods are safe to call
//! with any values, because every pointer they pass is made from a live Rust value.
#![expect(unsafe_code, reason = "calling a PKCS#11 module is calling C")]

pub mod call;
pub mod key;

use std::cell::Cell;
use std::path::Path;
use std::ptr;

use crate::structure::Structure;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_INTERFACE, CK_MECHANISM, CK_MECHANISM_INFO,
    CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_ULONG,
    CKA_DECAPSULATE_TEMPLATE, CKA_ENCAPSULATE_TEMPLATE, CKA_KEY_TYPE, CKA_PARAMETER_SET, CKF_OS_LOCKING_OK,
    CKF_RW_SESSION, CKF_SERIAL_SESSION, CKM_ML_KEM, CKM_ML_KEM_KEY_PAIR_GEN, CKP_ML_KEM_512, CKR_OK, CKU_USER, Pkcs11,
};

use crate::functions::FUNCTIONS;

/// What a call that returns bytes left: its CKR, the length that it reported, and the bytes if it was given room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The return value.
    pub rv: CK_RV,
    /// The length that the call wrote.
    pub len: usize,
    /// The first `len` bytes of the room, when the call succeeded with one.
    pub bytes: Vec<u8>,
}

/// How much room a call is given for its output.
#[derive(Debug, Clone, Copy)]
pub enum Room {
    /// A NULL pointer: how long would it be?
    Query,
    /// A buffer of so many bytes.
    Bytes(usize),
}

/// Which operation begins.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    /// C_EncryptInit.
    Encrypt,
    /// C_DecryptInit.
    Decrypt,
    /// C_SignInit.
    Sign,
    /// C_VerifyInit.
    Verify,
}

/// Memory that the module may write while the test holds it.
pub struct Memory(Box<[Cell<u64>]>);

impl Memory {
    /// So many zero bytes, rounded up to whole words.
    pub fn zeroed(len_bytes: usize) -> Memory {
        Memory(vec![Cell::new(0); len_bytes.div_ceil(8)].into())
    }

    /// Words: numbers, handles and addresses of other memory.
    pub fn words(words: &[u64]) -> Memory {
        Memory(words.iter().copied().map(Cell::new).collect())
    }

    /// Bytes.
    pub fn of(bytes: &[u8]) -> Memory {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            Cell::new(u64::from_ne_bytes(word))
        };
        Memory(bytes.chunks(8).map(word).collect())
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        u64::try_from(self.0.as_ptr().expose_provenance()).expect("an address is a word")
    }

    /// The first `len` bytes as they are now.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|word| word.get().to_ne_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    /// A word as it is now.
    pub fn word(&self, index: usize) -> u64 {
        self.0[index].get()
    }

    /// Changes a word.
    pub fn set(&self, index: usize, word: u64) {
        self.0[index].set(word);
    }
}

/// A loaded module.
pub struct Raw {
    module: Pkcs11,
}

impl Raw {
    /// Loads a module.
    ///
    /// # Panics
    /// When the file is not a PKCS#11 module.
    pub fn load(path: &Path) -> Raw {
        // SAFETY: the file is a PKCS#11 module; loading it runs no code but its own initialisers.
        Raw { module: unsafe { Pkcs11::new(path) }.expect("the module loads") }
    }

    /// C_Initialize with CKF_OS_LOCKING_OK.
    pub fn initialize(&self) -> CK_RV {
        self.initialize_with(CKF_OS_LOCKING_OK, None)
    }

    /// C_Initialize with these flags and, maybe, a non-NULL pReserved.
    pub fn initialize_with(&self, flags: CK_ULONG, reserved: Option<&mut u8>) -> CK_RV {
        let reserved = reserved.map_or(ptr::null_mut(), |byte| ptr::from_mut(byte).cast());
        let mut args = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags,
            pReserved: reserved,
        };
        // SAFETY: `args` lives through the call.
        unsafe { self.module.C_Initialize(ptr::from_mut(&mut args).cast()) }
    }

    /// C_Initialize(NULL).
    pub fn initialize_null(&self) -> CK_RV {
        // SAFETY: NULL is a legal argument.
        unsafe { self.module.C_Initialize(ptr::null_mut()) }
    }

    /// C_Finalize(NULL).
    pub fn finalize(&self) -> CK_RV {
        // SAFETY: NULL is the legal argument.
        unsafe { self.module.C_Finalize(ptr::null_mut()) }
    }

    /// C_GetSlotList with a token present.
    ///
    /// # Errors
    /// The CKR.
    pub fn slots(&self) -> Result<Vec<CK_SLOT_ID>, CK_RV> {
        let mut count: CK_ULONG = 256;
        let mut slots = vec![0; 256];
        // SAFETY: `slots` has room for `count` entries.
        done(unsafe { self.module.C_GetSlotList(1, slots.as_mut_ptr(), &mut count) })?;
        slots.truncate(usize::try_from(count).unwrap_or(0));
        Ok(slots)
    }

    /// C_OpenSession, R/W.
    ///
    /// # Errors
    /// The CKR.
    pub fn open_session(&self, slot: CK_SLOT_ID) -> Result<CK_SESSION_HANDLE, CK_RV> {
        let mut session = 0;
        let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
        // SAFETY: no callback; `session` receives the handle.
        done(unsafe { self.module.C_OpenSession(slot, flags, ptr::null_mut(), None, &mut session) })?;
        Ok(session)
    }

    /// C_CloseSession.
    pub fn close_session(&self, session: CK_SESSION_HANDLE) -> CK_RV {
        // SAFETY: a handle is a number.
        unsafe { self.module.C_CloseSession(session) }
    }

    /// C_GetSessionInfo: the state.
    ///
    /// # Errors
    /// The CKR.
    pub fn session_state(&self, session: CK_SESSION_HANDLE) -> Result<CK_ULONG, CK_RV> {
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: `info` lives through the call.
        done(unsafe { self.module.C_GetSessionInfo(session, &mut info) })?;
        Ok(info.state)
    }

    /// C_Login as the user.
    pub fn login(&self, session: CK_SESSION_HANDLE, pin: &str) -> CK_RV {
        self.login_as(session, CKU_USER, pin)
    }

    /// C_Login as any kind of user.
    pub fn login_as(&self, session: CK_SESSION_HANDLE, user: CK_ULONG, pin: &str) -> CK_RV {
        let mut pin = pin.as_bytes().to_vec();
        // SAFETY: `pin` lives through the call and has the stated length.
        unsafe { self.module.C_Login(session, user, pin.as_mut_ptr(), len(&pin)) }
    }

    /// C_Logout.
    pub fn logout(&self, session: CK_SESSION_HANDLE) -> CK_RV {
        // SAFETY: a handle is a number.
        unsafe { self.module.C_Logout(session) }
    }

    /// C_InitToken.
    pub fn init_token(&self, slot: CK_SLOT_ID, so_pin: &str, label: &str) -> CK_RV {
        let mut pin = so_pin.as_bytes().to_vec();
        let mut padded = [b' '; 32];
        padded[..label.len().min(32)].copy_from_slice(&label.as_bytes()[..label.len().min(32)]);
        // SAFETY: `pin` has the stated length; the label has the 32 bytes that the standard fixes.
        unsafe { self.module.C_InitToken(slot, pin.as_mut_ptr(), len(&pin), padded.as_mut_ptr()) }
    }

    /// C_GetMechanismList.
    ///
    /// # Errors
    /// The CKR.
    pub fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>, CK_RV> {
        let mut count: CK_ULONG = 0;
        // SAFETY: a NULL list asks for the count.
        done(unsafe { self.module.C_GetMechanismList(slot, ptr::null_mut(), &mut count) })?;
        let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: `list` has room for `count` entries.
        done(unsafe { self.module.C_GetMechanismList(slot, list.as_mut_ptr(), &mut count) })?;
        list.truncate(usize::try_from(count).unwrap_or(0));
        Ok(list)
    }

    /// C_GetMechanismInfo: the flags.
    ///
    /// # Errors
    /// The CKR.
    pub fn mechanism_flags(&self, slot: CK_SLOT_ID, mechanism: CK_MECHANISM_TYPE) -> Result<CK_ULONG, CK_RV> {
        let mut info = CK_MECHANISM_INFO::default();
        // SAFETY: `info` lives through the call.
        done(unsafe { self.module.C_GetMechanismInfo(slot, mechanism, &mut info) })?;
        Ok(info.flags)
    }

    /// C_SignInit with a mechanism that takes no parameter.
    pub fn sign_init(&self, session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> CK_RV {
        self.sign_init_with(session, mechanism, &[], key)
    }

    /// C_SignInit with a parameter that is a structure of numbers (none: no parameter).
    pub fn sign_init_with(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &[CK_ULONG],
        key: CK_OBJECT_HANDLE,
    ) -> CK_RV {
        let mut parameter = parameter.to_vec();
        let mut mechanism = with_parameter(mechanism, &mut parameter);
        // SAFETY: `mechanism` and its parameter live through the call.
        unsafe { self.module.C_SignInit(session, &mut mechanism, key) }
    }

    /// C_VerifyInit, like [`Raw::sign_init_with`].
    pub fn verify_init_with(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        parameter: &[CK_ULONG],
        key: CK_OBJECT_HANDLE,
    ) -> CK_RV {
        let mut parameter = parameter.to_vec();
        let mut mechanism = with_parameter(mechanism, &mut parameter);
        // SAFETY: `mechanism` and its parameter live through the call.
        unsafe { self.module.C_VerifyInit(session, &mut mechanism, key) }
    }

    /// C_Verify.
    pub fn verify(&self, session: CK_SESSION_HANDLE, data: &[u8], signature: &[u8]) -> CK_RV {
        let (mut data, mut signature) = (data.to_vec(), signature.to_vec());
        let (data_len, signature_len) = (len(&data), len(&signature));
        // SAFETY: both buffers have the stated lengths.
        unsafe { self.module.C_Verify(session, data.as_mut_ptr(), data_len, signature.as_mut_ptr(), signature_len) }
    }

    /// C_VerifyUpdate.
    pub fn verify_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> CK_RV {
        let mut data = data.to_vec();
        // SAFETY: `data` has the stated length.
        unsafe { self.module.C_VerifyUpdate(session, data.as_mut_ptr(), len(&data)) }
    }

    /// C_VerifyFinal.
    pub fn verify_final(&self, session: CK_SESSION_HANDLE, signature: &[u8]) -> CK_RV {
        let mut signature = signature.to_vec();
        // SAFETY: `signature` has the stated length.
        unsafe { self.module.C_VerifyFinal(session, signature.as_mut_ptr(), len(&signature)) }
    }

    /// C_SignInit(NULL mechanism).
    pub fn sign_init_null(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> CK_RV {
        // SAFETY: NULL is what the story is about.
        unsafe { self.module.C_SignInit(session, ptr::null_mut(), key) }
    }

    /// C_Sign.
    pub fn sign(&self, session: CK_SESSION_HANDLE, data: &[u8], room: Room) -> Output {
        let mut data = data.to_vec();
        output(room, |out, out_len| {
            // SAFETY: `data` has the stated length; `out` is NULL or has `*out_len` bytes.
            unsafe { self.module.C_Sign(session, data.as_mut_ptr(), len(&data), out, out_len) }
        })
    }

    /// C_Sign into the caller's buffer: what the benchmark's loop does. The number of bytes written.
    ///
    /// # Errors
    /// The CKR.
    pub fn sign_into(&self, session: CK_SESSION_HANDLE, data: &mut [u8], out: &mut [u8]) -> Result<usize, CK_RV> {
        let mut out_len = len(out);
        // SAFETY: both buffers have the stated lengths.
        done(unsafe { self.module.C_Sign(session, data.as_mut_ptr(), len(data), out.as_mut_ptr(), &mut out_len) })?;
        Ok(usize::try_from(out_len).unwrap_or(0))
    }

    /// C_SignUpdate.
    pub fn sign_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> CK_RV {
        let mut data = data.to_vec();
        // SAFETY: `data` has the stated length.
        unsafe { self.module.C_SignUpdate(session, data.as_mut_ptr(), len(&data)) }
    }

    /// C_SignFinal.
    pub fn sign_final(&self, session: CK_SESSION_HANDLE, room: Room) -> Output {
        // SAFETY: `out` is NULL or has `*out_len` bytes.
        output(room, |out, out_len| unsafe { self.module.C_SignFinal(session, out, out_len) })
    }

    /// C_DigestInit.
    pub fn digest_init(&self, session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_TYPE) -> CK_RV {
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        // SAFETY: `mechanism` lives through the call.
        unsafe { self.module.C_DigestInit(session, &mut mechanism) }
    }

    /// C_Digest.
    pub fn digest(&self, session: CK_SESSION_HANDLE, data: &[u8], room: Room) -> Output {
        let mut data = data.to_vec();
        output(room, |out, out_len| {
            // SAFETY: `data` has the stated length; `out` is NULL or has `*out_len` bytes.
            unsafe { self.module.C_Digest(session, data.as_mut_ptr(), len(&data), out, out_len) }
        })
    }

    /// C_EncryptInit with an initialisation vector as its parameter.
    pub fn encrypt_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        iv: &[u8],
        key: CK_OBJECT_HANDLE,
    ) -> CK_RV {
        let mut iv = iv.to_vec();
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: iv.as_mut_ptr().cast(), ulParameterLen: len(&iv) };
        // SAFETY: `mechanism` and its parameter live through the call.
        unsafe { self.module.C_EncryptInit(session, &mut mechanism, key) }
    }

    /// C_Encrypt.
    pub fn encrypt(&self, session: CK_SESSION_HANDLE, data: &[u8], room: Room) -> Output {
        let mut data = data.to_vec();
        output(room, |out, out_len| {
            // SAFETY: `data` has the stated length; `out` is NULL or has `*out_len` bytes.
            unsafe { self.module.C_Encrypt(session, data.as_mut_ptr(), len(&data), out, out_len) }
        })
    }

    /// C_EncryptInit, C_DecryptInit, C_SignInit or C_VerifyInit with any parameter.
    pub fn init(
        &self,
        kind: Init,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Structure<'_>,
        key: CK_OBJECT_HANDLE,
    ) -> CK_RV {
        parameter.with(mechanism, |mechanism| {
            // SAFETY: the mechanism and all that its parameter points at live through the call.
            unsafe {
                match kind {
                    Init::Encrypt => self.module.C_EncryptInit(session, mechanism, key),
                    Init::Decrypt => self.module.C_DecryptInit(session, mechanism, key),
                    Init::Sign => self.module.C_SignInit(session, mechanism, key),
                    Init::Verify => self.module.C_VerifyInit(session, mechanism, key),
                }
            }
        })
    }

    /// C_Decrypt.
    pub fn decrypt(&self, session: CK_SESSION_HANDLE, data: &[u8], room: Room) -> Output {
        let mut data = data.to_vec();
        output(room, |out, out_len| {
            // SAFETY: `data` has the stated length; `out` is NULL or has `*out_len` bytes.
            unsafe { self.module.C_Decrypt(session, data.as_mut_ptr(), len(&data), out, out_len) }
        })
    }

    /// C_DeriveKey with any parameter: the key's handle.
    ///
    /// # Errors
    /// The CKR.
    pub fn derive_with(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Structure<'_>,
        base: CK_OBJECT_HANDLE,
        template: &[(CK_ULONG, Vec<u8>)],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut key, mut rows) = (0, rows(template));
        let rv = parameter.with(mechanism, |mechanism| {
            // SAFETY: mechanism, parameter and template live through the call; `key` receives the handle.
            unsafe { self.module.C_DeriveKey(session, mechanism, base, rows.as_mut_ptr(), count(&rows), &mut key) }
        });
        done(rv).map(|()| key)
    }

    /// C_DeriveKey with NULL for the handle, as for the keys of a TLS connection.
    pub fn derive_without_handle(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Structure<'_>,
        base: CK_OBJECT_HANDLE,
        template: &[(CK_ULONG, Vec<u8>)],
    ) -> CK_RV {
        let mut rows = rows(template);
        parameter.with(mechanism, |mechanism| {
            let rows_len = count(&rows);
            // SAFETY: mechanism, parameter and template live through the call; NULL is what the standard asks for.
            unsafe { self.module.C_DeriveKey(session, mechanism, base, rows.as_mut_ptr(), rows_len, ptr::null_mut()) }
        })
    }

    /// C_GenerateKey with any parameter: the key's handle.
    ///
    /// # Errors
    /// The CKR.
    pub fn generate_with(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        mut parameter: Structure<'_>,
        template: &[(CK_ULONG, Vec<u8>)],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut key, mut rows) = (0, rows(template));
        let rv = parameter.with(mechanism, |mechanism| {
            // SAFETY: mechanism, parameter and template live through the call; `key` receives the handle.
            unsafe { self.module.C_GenerateKey(session, mechanism, rows.as_mut_ptr(), count(&rows), &mut key) }
        });
        done(rv).map(|()| key)
    }

    /// C_CreateObject: the object's handle.
    ///
    /// # Errors
    /// The CKR.
    pub fn create_from(
        &self,
        session: CK_SESSION_HANDLE,
        template: &[(CK_ULONG, Vec<u8>)],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut object, mut rows) = (0, rows(template));
        // SAFETY: the template lives through the call; `object` receives the handle.
        done(unsafe { self.module.C_CreateObject(session, rows.as_mut_ptr(), count(&rows), &mut object) })?;
        Ok(object)
    }

    /// C_GetAttributeValue of one attribute.
    pub fn attribute(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attribute: CK_ULONG,
        room: Room,
    ) -> Output {
        output(room, |out, out_len| {
            // SAFETY: `out_len` points to the length of `out`.
            let ul_value_len = unsafe { *out_len };
            let mut row = CK_ATTRIBUTE { type_: attribute, pValue: out.cast(), ulValueLen: ul_value_len };
            // SAFETY: `row` lives through the call; its value is NULL or has the stated length.
            let rv = unsafe { self.module.C_GetAttributeValue(session, object, &mut row, 1) };
            // SAFETY: `out_len` is the caller's live variable.
            unsafe { *out_len = row.ulValueLen };
            rv
        })
    }

    /// C_GenerateKeyPair of ML-KEM-512 whose CKA_ENCAPSULATE_TEMPLATE and CKA_DECAPSULATE_TEMPLATE ask for one key type.
    ///
    /// # Errors
    /// The CKR.
    pub fn ml_kem_pair_with_templates(
        &self,
        session: CK_SESSION_HANDLE,
        key_type: CK_ULONG,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
        let (mut set, mut key_type) = (CKP_ML_KEM_512, key_type);
        let mut mechanism =
            CK_MECHANISM { mechanism: CKM_ML_KEM_KEY_PAIR_GEN, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let number = |type_, value: &mut CK_ULONG| CK_ATTRIBUTE {
            type_,
            pValue: ptr::from_mut(value).cast(),
            ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
        };
        let mut inner = number(CKA_KEY_TYPE, &mut key_type);
        let nested = |type_, inner: *mut CK_ATTRIBUTE| CK_ATTRIBUTE {
            type_,
            pValue: inner.cast(),
            ulValueLen: size_of::<CK_ATTRIBUTE>() as CK_ULONG,
        };
        let mut public = [number(CKA_PARAMETER_SET, &mut set), nested(CKA_ENCAPSULATE_TEMPLATE, &raw mut inner)];
        let mut private = [nested(CKA_DECAPSULATE_TEMPLATE, &raw mut inner)];
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: mechanism, templates, what they point to and the places live through the call.
        done(unsafe {
            let (public, private) = (public.as_mut_ptr(), private.as_mut_ptr());
            let places = (&raw mut public_key, &raw mut private_key);
            self.module.C_GenerateKeyPair(session, &mut mechanism, public, 2, private, 1, places.0, places.1)
        })?;
        Ok((public_key, private_key))
    }

    /// C_EncapsulateKey with CKM_ML_KEM: what it gave, and the handle that it wrote, if it was given a place and wrote one.
    pub fn encapsulate(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        template: &[(CK_ULONG, CK_ULONG)],
        room: Room,
    ) -> (Output, Option<CK_OBJECT_HANDLE>) {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_ML_KEM, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let mut values: Vec<CK_ULONG> = template.iter().map(|row| row.1).collect();
        let mut rows = rows_of(template, &mut values);
        let mut made = CK_ULONG::MAX;
        let place = if matches!(room, Room::Query) { ptr::null_mut() } else { ptr::from_mut(&mut made) };
        let result = output(room, |out, out_len| {
            let (rows, count) = (rows.as_mut_ptr(), template.len() as CK_ULONG);
            // SAFETY: mechanism, template and places live through the call; `out` is NULL or has `*out_len` bytes.
            unsafe { self.module.C_EncapsulateKey(session, &mut mechanism, key, rows, count, out, out_len, place) }
        });
        (result, (made != CK_ULONG::MAX).then_some(made))
    }

    /// C_DecapsulateKey with CKM_ML_KEM and a template of numbers.
    ///
    /// # Errors
    /// The CKR.
    pub fn decapsulate(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        template: &[(CK_ULONG, CK_ULONG)],
        ciphertext: &[u8],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_ML_KEM, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        let mut values: Vec<CK_ULONG> = template.iter().map(|row| row.1).collect();
        let mut rows = rows_of(template, &mut values);
        let (mut data, mut made) = (ciphertext.to_vec(), 0);
        let (rows, count) = (rows.as_mut_ptr(), template.len() as CK_ULONG);
        let (data, data_len) = (data.as_mut_ptr(), len(ciphertext));
        // SAFETY: everything lives through the call and has the stated lengths.
        done(unsafe {
            self.module.C_DecapsulateKey(session, &mut mechanism, key, rows, count, data, data_len, &mut made)
        })?;
        Ok(made)
    }

    /// C_FindObjectsInit for every object.
    pub fn find_init(&self, session: CK_SESSION_HANDLE) -> CK_RV {
        // SAFETY: no template has no rows.
        unsafe { self.module.C_FindObjectsInit(session, ptr::null_mut(), 0) }
    }

    /// C_FindObjects for one object: its handle, or none when there is no further one.
    ///
    /// # Errors
    /// The CKR.
    pub fn find_next(&self, session: CK_SESSION_HANDLE) -> Result<Option<CK_OBJECT_HANDLE>, CK_RV> {
        let (mut handle, mut count) = (0, 0);
        // SAFETY: there is room for one handle.
        done(unsafe { self.module.C_FindObjects(session, &mut handle, 1, &mut count) })?;
        Ok((count == 1).then_some(handle))
    }

    /// C_FindObjectsFinal.
    pub fn find_final(&self, session: CK_SESSION_HANDLE) -> CK_RV {
        // SAFETY: a handle is a number.
        unsafe { self.module.C_FindObjectsFinal(session) }
    }

    /// C_DestroyObject.
    pub fn destroy(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
        // SAFETY: handles are numbers.
        unsafe { self.module.C_DestroyObject(session, object) }
    }

    /// The names and versions of C_GetInterfaceList.
    ///
    /// # Errors
    /// The CKR.
    pub fn interfaces(&self) -> Result<Vec<(String, u8, u8)>, CK_RV> {
        let mut count: CK_ULONG = 0;
        // SAFETY: a NULL list asks for the count.
        done(unsafe { self.module.C_GetInterfaceList(ptr::null_mut(), &mut count) })?;
        let empty = CK_INTERFACE { pInterfaceName: ptr::null_mut(), pFunctionList: ptr::null_mut(), flags: 0 };
        let mut list = vec![empty; usize::try_from(count).unwrap_or(0)];
        // SAFETY: `list` has room for `count` entries.
        done(unsafe { self.module.C_GetInterfaceList(list.as_mut_ptr(), &mut count) })?;
        Ok(list.iter().map(described).collect())
    }

    /// C_GetInterface("PKCS 11", NULL, flags): the version of what it gives.
    ///
    /// # Errors
    /// The CKR.
    pub fn interface(&self, flags: CK_ULONG) -> Result<(String, u8, u8), CK_RV> {
        let mut name = *b"PKCS 11\0";
        let mut interface: *mut CK_INTERFACE = ptr::null_mut();
        // SAFETY: the name ends with NUL; `interface` receives a pointer into the module.
        done(unsafe { self.module.C_GetInterface(name.as_mut_ptr().cast(), ptr::null_mut(), &mut interface, flags) })?;
        // SAFETY: the module answered CKR_OK, so the pointer leads to an interface that lives as long as the module.
        Ok(described(unsafe { &*interface }))
    }

    /// The module under test with the user logged in at the first slot: itself, the slot and the session.
    ///
    /// # Panics
    /// When the world has no such token.
    pub fn with_user() -> (Raw, CK_SLOT_ID, CK_SESSION_HANDLE) {
        let raw = Raw::load(&crate::module::path());
        assert_eq!(raw.initialize(), CKR_OK);
        let slot = raw.slots().expect("slots")[0];
        let session = raw.open_session(slot).expect("a session");
        assert_eq!(raw.login(session, crate::world::PIN), CKR_OK);
        (raw, slot, session)
    }

    /// Any function by its name, with its arguments as machine words (numbers, or addresses of [`Memory`]).
    ///
    /// What an address and a length say together must be true, or so wrong that the module has to refuse it unread.
    ///
    /// # Panics
    /// When there is no such function, or it takes another number of arguments.
    pub fn call(&self, name: &str, arguments: &[CK_ULONG]) -> CK_RV {
        let index = FUNCTIONS.iter().position(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}"));
        let count = FUNCTIONS[index].1.chars().filter(|letter| *letter != ' ').count();
        assert_eq!(arguments.len(), count, "arguments of {name}");
        let mut words = [0; 10];
        words[..count].copy_from_slice(arguments);
        let [a, b, c, d, e, f, g, h, i, j] = words;
        type Any = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> CK_RV;
        // SAFETY: the list is a version, padded to a word, and then the functions in the order of the table. Numbers and pointers
        // are passed alike, and a C function does not see arguments beyond its own.
        unsafe {
            let function: Any = std::mem::transmute(self.list_3_2().add(1 + index).read());
            function(a, b, c, d, e, f, g, h, i, j)
        }
    }

    /// The addresses of the functions in the lists of 2.40 (C_GetFunctionList), 3.0 and 3.2 (C_GetInterface).
    pub fn function_lists(&self) -> [Vec<u64>; 3] {
        let mut oldest: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: `oldest` receives a pointer into the module.
        let rv = unsafe { self.module.C_GetFunctionList(&mut oldest) };
        assert_eq!(rv, CKR_OK, "C_GetFunctionList");
        [(oldest.cast_const().cast(), 68), (self.list_of(3, 0), 92), (self.list_of(3, 2), FUNCTIONS.len())].map(
            |(list, count)| {
                let list: *const u64 = list.cast();
                // SAFETY: a list is a version, padded to a word, and then its functions; it lives as long as the module is loaded.
                (1..=count).map(|at| unsafe { list.add(at).read() }).collect()
            },
        )
    }

    /// The function list of version 3.2.
    fn list_3_2(&self) -> *const *const std::ffi::c_void {
        self.list_of(3, 2)
    }

    fn list_of(&self, major: u8, minor: u8) -> *const *const std::ffi::c_void {
        let mut name = *b"PKCS 11\0";
        let mut version = cryptoki_sys::CK_VERSION { major, minor };
        let mut interface: *mut CK_INTERFACE = ptr::null_mut();
        // SAFETY: the name ends with NUL; `interface` receives a pointer into the module, which lives as long as it is loaded.
        unsafe {
            let rv = self.module.C_GetInterface(name.as_mut_ptr().cast(), &mut version, &mut interface, 0);
            assert_eq!(rv, CKR_OK, "interface {major}.{minor}");
            (*interface).pFunctionList.cast()
        }
    }

    /// How many entries of the 2.40 function list are NULL, of how many.
    ///
    /// # Errors
    /// The CKR.
    pub fn null_functions(&self) -> Result<(usize, usize), CK_RV> {
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: `list` receives a pointer into the module.
        done(unsafe { self.module.C_GetFunctionList(&mut list) })?;
        let words = size_of::<CK_FUNCTION_LIST>() / size_of::<usize>();
        // SAFETY: the list is a version (padded to one word) and then nothing but function pointers, and lives with the module.
        let words = unsafe { std::slice::from_raw_parts(list.cast::<usize>(), words) };
        let functions = &words[1..];
        Ok((functions.iter().filter(|word| **word == 0).count(), functions.len()))
    }
}

fn described(interface: &CK_INTERFACE) -> (String, u8, u8) {
    // SAFETY: an interface's name is a C string and its function list begins with a version, both alive with the module.
    let (name, version) = unsafe {
        let name = std::ffi::CStr::from_ptr(interface.pInterfaceName.cast());
        (name.to_string_lossy().into_owned(), *interface.pFunctionList.cast::<cryptoki_sys::CK_VERSION>())
    };
    (name, version.major, version.minor)
}

fn with_parameter(mechanism: CK_MECHANISM_TYPE, parameter: &mut [CK_ULONG]) -> CK_MECHANISM {
    let bytes = CK_ULONG::try_from(size_of_val(parameter)).expect("a parameter is small");
    let pointer = if parameter.is_empty() { ptr::null_mut() } else { parameter.as_mut_ptr().cast() };
    CK_MECHANISM { mechanism, pParameter: pointer, ulParameterLen: bytes }
}

/// A template of numbers; the values stay alive in `values`.
fn rows_of(template: &[(CK_ULONG, CK_ULONG)], values: &mut [CK_ULONG]) -> Vec<CK_ATTRIBUTE> {
    let row = |((attribute, _), value): (&(CK_ULONG, CK_ULONG), &mut CK_ULONG)| CK_ATTRIBUTE {
        type_: *attribute,
        pValue: ptr::from_mut(value).cast(),
        ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
    };
    template.iter().zip(values).map(row).collect()
}

fn output(room: Room, call: impl FnOnce(*mut u8, *mut CK_ULONG) -> CK_RV) -> Output {
    let mut buffer = match room {
        Room::Query => Vec::new(),
        Room::Bytes(count) => vec![0; count],
    };
    let pointer = if matches!(room, Room::Query) { ptr::null_mut() } else { buffer.as_mut_ptr() };
    let mut out_len = len(&buffer);
    let rv = call(pointer, &mut out_len);
    let out_len = usize::try_from(out_len).unwrap_or(usize::MAX);
    if rv == CKR_OK {
        buffer.truncate(out_len)
    } else {
        buffer.clear()
    }
    Output { rv, len: out_len, bytes: buffer }
}

fn rows(template: &[(CK_ULONG, Vec<u8>)]) -> Vec<CK_ATTRIBUTE> {
    let row = |(kind, value): &(CK_ULONG, Vec<u8>)| CK_ATTRIBUTE {
        type_: *kind,
        pValue: value.as_ptr().cast_mut().cast(),
        ulValueLen: len(value),
    };
    template.iter().map(row).collect()
}

fn count(rows: &[CK_ATTRIBUTE]) -> CK_ULONG {
    CK_ULONG::try_from(rows.len()).expect("a template is short")
}

fn done(rv: CK_RV) -> Result<(), CK_RV> {
    if rv == CKR_OK { Ok(()) } else { Err(rv) }
}

fn len(bytes: &[u8]) -> CK_ULONG {
    CK_ULONG::try_from(bytes.len()).expect("CK_ULONG is as wide as a pointer here")
}
