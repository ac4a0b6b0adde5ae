//! Numbers inside mechanism parameters: CKG_* mask generation functions and IV generators, CKD_* key derivation functions, CKZ_*
//! sources of labels and salts, CKH_* hedge variants, and what derivations are told (PKCS#11 3.2 header).

registry! {
    /// A mask generation function, `CK_RSA_PKCS_MGF_TYPE`.
    Mgf {
        CKG_MGF1_SHA1 CKG_MGF1_SHA224 CKG_MGF1_SHA256 CKG_MGF1_SHA384 CKG_MGF1_SHA512
        CKG_MGF1_SHA3_224 CKG_MGF1_SHA3_256 CKG_MGF1_SHA3_384 CKG_MGF1_SHA3_512
    }
}

registry! {
    /// A key derivation function of ECDH, `CK_EC_KDF_TYPE`.
    EcKdf {
        CKD_NULL CKD_SHA1_KDF CKD_SHA224_KDF CKD_SHA256_KDF CKD_SHA384_KDF CKD_SHA512_KDF
        CKD_SHA3_224_KDF CKD_SHA3_256_KDF CKD_SHA3_384_KDF CKD_SHA3_512_KDF
        CKD_SHA1_KDF_SP800 CKD_SHA224_KDF_SP800 CKD_SHA256_KDF_SP800 CKD_SHA384_KDF_SP800 CKD_SHA512_KDF_SP800
        CKD_SHA3_224_KDF_SP800 CKD_SHA3_256_KDF_SP800 CKD_SHA3_384_KDF_SP800 CKD_SHA3_512_KDF_SP800
    }
}

registry! {
    /// Whether a post-quantum signature is hedged or deterministic, `CK_HEDGE_TYPE`.
    Hedge { CKH_HEDGE_PREFERRED CKH_HEDGE_REQUIRED CKH_DETERMINISTIC_REQUIRED }
}

registry! {
    /// A generator of IVs, `CK_GENERATOR_FUNCTION`.
    Generator {
        CKG_NO_GENERATE CKG_GENERATE CKG_GENERATE_COUNTER CKG_GENERATE_RANDOM CKG_GENERATE_COUNTER_XOR
    }
}

registry! {
    /// The source of an OAEP label, `CK_RSA_PKCS_OAEP_SOURCE_TYPE`.
    OaepSource { CKZ_DATA_SPECIFIED }
}

registry! {
    /// The source of a PBKDF2 salt, `CK_PKCS5_PBKDF2_SALT_SOURCE_TYPE`.
    SaltSource { CKZ_SALT_SPECIFIED }
}

registry! {
    /// The pseudorandom function of PBKDF2, `CK_PKCS5_PBKD2_PSEUDO_RANDOM_FUNCTION_TYPE`.
    Pbkdf2Prf {
        CKP_PKCS5_PBKD2_HMAC_SHA1 CKP_PKCS5_PBKD2_HMAC_SHA224 CKP_PKCS5_PBKD2_HMAC_SHA256 CKP_PKCS5_PBKD2_HMAC_SHA384
        CKP_PKCS5_PBKD2_HMAC_SHA512 CKP_PKCS5_PBKD2_HMAC_SHA512_224 CKP_PKCS5_PBKD2_HMAC_SHA512_256
    }
}

registry! {
    /// The source of an HKDF salt.
    HkdfSalt { CKF_HKDF_SALT_NULL CKF_HKDF_SALT_DATA CKF_HKDF_SALT_KEY }
}

registry! {
    /// A field of the input of SP 800-108, `CK_PRF_DATA_TYPE`.
    KbkdfField {
        CK_SP800_108_ITERATION_VARIABLE CK_SP800_108_COUNTER CK_SP800_108_DKM_LENGTH CK_SP800_108_BYTE_ARRAY
        CK_SP800_108_KEY_HANDLE
    }
}

registry! {
    /// How SP 800-108 counts the length of what it derives, `CK_SP800_108_DKM_LENGTH_METHOD`.
    KbkdfLength { CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS }
}
