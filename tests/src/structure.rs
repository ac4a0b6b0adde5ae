//! Mechanism parameters that are C structures with pointers inside, made of values that live through the call.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_BYTE, CK_CCM_PARAMS, CK_GCM_PARAMS, CK_KEY_DERIVATION_STRING_DATA, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_PKCS5_PBKD2_PARAMS, CK_PKCS5_PBKD2_PARAMS2, CK_SSL3_KEY_MAT_OUT, CK_SSL3_RANDOM_DATA, CK_TLS_KDF_PARAMS,
    CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS, CK_TLS12_KEY_MAT_PARAMS, CK_TLS12_MASTER_KEY_DERIVE_PARAMS, CK_ULONG,
    CK_VERSION, CKZ_SALT_SPECIFIED,
};

/// The randoms of a TLS handshake: the client's and the server's.
pub type Randoms<'a> = (&'a [u8], &'a [u8]);

/// What C_DeriveKey gives out for a TLS connection.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Client's and server's MAC key, client's and server's cipher key.
    pub handles: [CK_ULONG; 4],
    /// The client's IV.
    pub client_iv: Vec<u8>,
    /// The server's IV.
    pub server_iv: Vec<u8>,
}

/// A parameter.
#[derive(Debug)]
pub enum Structure<'a> {
    /// Plain bytes.
    Bytes(&'a [u8]),
    /// A structure of numbers.
    Numbers(&'a [CK_ULONG]),
    /// CK_KEY_DERIVATION_STRING_DATA.
    Data(&'a [u8]),
    /// CK_GCM_PARAMS: IV, additional data, bits of the tag.
    Gcm(&'a [u8], &'a [u8], CK_ULONG),
    /// CK_CCM_PARAMS: length of the plaintext, nonce, additional data, length of the tag.
    Ccm(CK_ULONG, &'a [u8], &'a [u8], CK_ULONG),
    /// CK_PKCS5_PBKD2_PARAMS2: password, salt, rounds, function.
    Pbkdf2(&'a [u8], &'a [u8], CK_ULONG, CK_ULONG),
    /// CK_PKCS5_PBKD2_PARAMS, which points at the password's length.
    OldPbkdf2(&'a [u8], &'a [u8], CK_ULONG, CK_ULONG),
    /// CK_TLS12_MASTER_KEY_DERIVE_PARAMS: hash, randoms, and the place of the version.
    TlsMaster(CK_MECHANISM_TYPE, Randoms<'a>, Option<&'a mut [u8; 2]>),
    /// CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS: hash, session hash.
    TlsExtendedMaster(CK_MECHANISM_TYPE, &'a [u8]),
    /// CK_TLS12_KEY_MAT_PARAMS: hash, randoms, bits of MAC key, cipher key and IV, and the place of the results.
    TlsKeys(CK_MECHANISM_TYPE, Randoms<'a>, [CK_ULONG; 3], &'a mut Connection),
    /// CK_TLS_KDF_PARAMS: hash, label, randoms, context.
    TlsKdf(CK_MECHANISM_TYPE, &'a [u8], Randoms<'a>, Option<&'a [u8]>),
}

fn len(bytes: &[u8]) -> CK_ULONG {
    CK_ULONG::try_from(bytes.len()).expect("CK_ULONG is as wide as a pointer here")
}

fn start(bytes: &[u8]) -> *mut CK_BYTE {
    if bytes.is_empty() { ptr::null_mut() } else { bytes.as_ptr().cast_mut() }
}

fn randoms((client, server): Randoms<'_>) -> CK_SSL3_RANDOM_DATA {
    CK_SSL3_RANDOM_DATA {
        pClientRandom: start(client),
        ulClientRandomLen: len(client),
        pServerRandom: start(server),
        ulServerRandomLen: len(server),
    }
}

fn of<T, R>(mechanism: CK_MECHANISM_TYPE, mut parameter: T, call: impl FnOnce(&mut CK_MECHANISM) -> R) -> R {
    let bytes = CK_ULONG::try_from(size_of::<T>()).expect("a structure is small");
    let place = ptr::from_mut(&mut parameter).cast::<c_void>();
    call(&mut CK_MECHANISM { mechanism, pParameter: place, ulParameterLen: bytes })
}

impl Structure<'_> {
    /// Calls with a mechanism that has this parameter; every pointer in it is good until the call returns.
    pub(crate) fn with<R>(&mut self, mechanism: CK_MECHANISM_TYPE, call: impl FnOnce(&mut CK_MECHANISM) -> R) -> R {
        match self {
            Structure::Bytes(bytes) => {
                call(&mut CK_MECHANISM { mechanism, pParameter: start(bytes).cast(), ulParameterLen: len(bytes) })
            }
            Structure::Numbers(numbers) => {
                let bytes = CK_ULONG::try_from(size_of_val(*numbers)).expect("a structure is small");
                let place = numbers.as_ptr().cast_mut().cast();
                call(&mut CK_MECHANISM { mechanism, pParameter: place, ulParameterLen: bytes })
            }
            Structure::Data(data) => {
                of(mechanism, CK_KEY_DERIVATION_STRING_DATA { pData: start(data), ulLen: len(data) }, call)
            }
            Structure::Gcm(iv, aad, tag_bits) => {
                let parameter = CK_GCM_PARAMS {
                    pIv: start(iv),
                    ulIvLen: len(iv),
                    ulIvBits: 8 * len(iv),
                    pAAD: start(aad),
                    ulAADLen: len(aad),
                    ulTagBits: *tag_bits,
                };
                of(mechanism, parameter, call)
            }
            Structure::Ccm(data_len, nonce, aad, tag_len) => {
                let parameter = CK_CCM_PARAMS {
                    ulDataLen: *data_len,
                    pNonce: start(nonce),
                    ulNonceLen: len(nonce),
                    pAAD: start(aad),
                    ulAADLen: len(aad),
                    ulMACLen: *tag_len,
                };
                of(mechanism, parameter, call)
            }
            Structure::Pbkdf2(password, salt, iterations, prf) => {
                let parameter = CK_PKCS5_PBKD2_PARAMS2 {
                    saltSource: CKZ_SALT_SPECIFIED,
                    pSaltSourceData: start(salt).cast(),
                    ulSaltSourceDataLen: len(salt),
                    iterations: *iterations,
                    prf: *prf,
                    pPrfData: ptr::null_mut(),
                    ulPrfDataLen: 0,
                    pPassword: start(password),
                    ulPasswordLen: len(password),
                };
                of(mechanism, parameter, call)
            }
            Structure::OldPbkdf2(password, salt, iterations, prf) => {
                let mut password_len = len(password);
                let parameter = CK_PKCS5_PBKD2_PARAMS {
                    saltSource: CKZ_SALT_SPECIFIED,
                    pSaltSourceData: start(salt).cast(),
                    ulSaltSourceDataLen: len(salt),
                    iterations: *iterations,
                    prf: *prf,
                    pPrfData: ptr::null_mut(),
                    ulPrfDataLen: 0,
                    pPassword: start(password),
                    ulPasswordLen: &raw mut password_len,
                };
                of(mechanism, parameter, call)
            }
            Structure::TlsMaster(hash, both, version) => {
                let mut place = CK_VERSION { major: 0xee, minor: 0xee };
                let wanted = version.is_some();
                let parameter = CK_TLS12_MASTER_KEY_DERIVE_PARAMS {
                    RandomInfo: randoms(*both),
                    pVersion: if wanted { &raw mut place } else { ptr::null_mut() },
                    prfHashMechanism: *hash,
                };
                let result = of(mechanism, parameter, call);
                if let Some(version) = version {
                    **version = [place.major, place.minor];
                }
                result
            }
            Structure::TlsExtendedMaster(hash, session_hash) => {
                let parameter = CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS {
                    prfHashMechanism: *hash,
                    pSessionHash: start(session_hash),
                    ulSessionHashLen: len(session_hash),
                    pVersion: ptr::null_mut(),
                };
                of(mechanism, parameter, call)
            }
            Structure::TlsKeys(hash, both, bits, connection) => {
                let room = usize::try_from(bits[2] / 8).unwrap_or(0);
                (connection.client_iv, connection.server_iv) = (vec![0; room], vec![0; room]);
                let mut place = CK_SSL3_KEY_MAT_OUT {
                    hClientMacSecret: CK_ULONG::MAX,
                    hServerMacSecret: CK_ULONG::MAX,
                    hClientKey: CK_ULONG::MAX,
                    hServerKey: CK_ULONG::MAX,
                    pIVClient: connection.client_iv.as_mut_ptr(),
                    pIVServer: connection.server_iv.as_mut_ptr(),
                };
                let parameter = CK_TLS12_KEY_MAT_PARAMS {
                    ulMacSizeInBits: bits[0],
                    ulKeySizeInBits: bits[1],
                    ulIVSizeInBits: bits[2],
                    bIsExport: 0,
                    RandomInfo: randoms(*both),
                    pReturnedKeyMaterial: &raw mut place,
                    prfHashMechanism: *hash,
                };
                let result = of(mechanism, parameter, call);
                connection.handles =
                    [place.hClientMacSecret, place.hServerMacSecret, place.hClientKey, place.hServerKey];
                result
            }
            Structure::TlsKdf(hash, label, both, context) => {
                let parameter = CK_TLS_KDF_PARAMS {
                    prfMechanism: *hash,
                    pLabel: start(label),
                    ulLabelLength: len(label),
                    RandomInfo: randoms(*both),
                    // An empty context is not NULL: it is another thing than none.
                    pContextData: context.map_or(ptr::null_mut(), |context| context.as_ptr().cast_mut()),
                    ulContextDataLength: context.map_or(0, len),
                };
                of(mechanism, parameter, call)
            }
        }
    }
}
