//! Numbers inside mechanism parameters: CKG_* mask generation functions, CKD_* key derivation functions, CKZ_* label sources,
//! CKH_* hedge variants (PKCS#11 3.2 header).

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
    }
}

registry! {
    /// Whether a post-quantum signature is hedged or deterministic, `CK_HEDGE_TYPE`.
    Hedge { CKH_HEDGE_PREFERRED CKH_HEDGE_REQUIRED CKH_DETERMINISTIC_REQUIRED }
}

registry! {
    /// The source of an OAEP label, `CK_RSA_PKCS_OAEP_SOURCE_TYPE`.
    OaepSource { CKZ_DATA_SPECIFIED }
}
