//! CKO_*, CKK_* and CKC_* numbers and names, and CKP_* parameter sets (PKCS#11 3.2 header).

registry! {
    /// An object class, `CK_OBJECT_CLASS`.
    ObjectClass {
        CKO_DATA
        CKO_CERTIFICATE
        CKO_PUBLIC_KEY
        CKO_PRIVATE_KEY
        CKO_SECRET_KEY
        CKO_HW_FEATURE
        CKO_DOMAIN_PARAMETERS
        CKO_MECHANISM
        CKO_OTP_KEY
        CKO_PROFILE
        CKO_VALIDATION
        CKO_TRUST
        CKO_VENDOR_DEFINED
    }
}

registry! {
    /// A key type, `CK_KEY_TYPE`.
    KeyType {
        CKK_RSA
        CKK_DSA
        CKK_DH
        CKK_EC
        CKK_X9_42_DH
        CKK_KEA
        CKK_GENERIC_SECRET
        CKK_RC2
        CKK_RC4
        CKK_DES
        CKK_DES2
        CKK_DES3
        CKK_CAST
        CKK_CAST3
        CKK_CAST128
        CKK_RC5
        CKK_IDEA
        CKK_SKIPJACK
        CKK_BATON
        CKK_JUNIPER
        CKK_CDMF
        CKK_AES
        CKK_BLOWFISH
        CKK_TWOFISH
        CKK_SECURID
        CKK_HOTP
        CKK_ACTI
        CKK_CAMELLIA
        CKK_ARIA
        CKK_MD5_HMAC
        CKK_SHA_1_HMAC
        CKK_RIPEMD128_HMAC
        CKK_RIPEMD160_HMAC
        CKK_SHA256_HMAC
        CKK_SHA384_HMAC
        CKK_SHA512_HMAC
        CKK_SHA224_HMAC
        CKK_SEED
        CKK_GOSTR3410
        CKK_GOSTR3411
        CKK_GOST28147
        CKK_CHACHA20
        CKK_POLY1305
        CKK_AES_XTS
        CKK_SHA3_224_HMAC
        CKK_SHA3_256_HMAC
        CKK_SHA3_384_HMAC
        CKK_SHA3_512_HMAC
        CKK_BLAKE2B_160_HMAC
        CKK_BLAKE2B_256_HMAC
        CKK_BLAKE2B_384_HMAC
        CKK_BLAKE2B_512_HMAC
        CKK_SALSA20
        CKK_X2RATCHET
        CKK_EC_EDWARDS
        CKK_EC_MONTGOMERY
        CKK_HKDF
        CKK_SHA512_224_HMAC
        CKK_SHA512_256_HMAC
        CKK_SHA512_T_HMAC
        CKK_HSS
        CKK_XMSS
        CKK_XMSSMT
        CKK_ML_KEM
        CKK_ML_DSA
        CKK_SLH_DSA
        CKK_VENDOR_DEFINED
    }
}

registry! {
    /// A profile, `CK_PROFILE_ID`.
    ProfileId {
        CKP_BASELINE_PROVIDER
        CKP_EXTENDED_PROVIDER
        CKP_AUTHENTICATION_TOKEN
        CKP_PUBLIC_CERTIFICATES_TOKEN
    }
}

registry! {
    /// A hardware feature, `CK_HW_FEATURE_TYPE`.
    HwFeature {
        CKH_MONOTONIC_COUNTER
        CKH_CLOCK
        CKH_USER_INTERFACE
    }
}

registry! {
    /// A certificate type, `CK_CERTIFICATE_TYPE`.
    CertificateType {
        CKC_X_509
        CKC_X_509_ATTR_CERT
        CKC_WTLS
        CKC_VENDOR_DEFINED
    }
}

registry! {
    /// A parameter set of a post-quantum key, `CK_ULONG` in CKA_PARAMETER_SET; the meaning depends on the key type.
    ParameterSet {
        CKP_ML_DSA_44
        CKP_ML_DSA_65
        CKP_ML_DSA_87
        CKP_ML_KEM_512
        CKP_ML_KEM_768
        CKP_ML_KEM_1024
        CKP_SLH_DSA_SHA2_128S
        CKP_SLH_DSA_SHAKE_128S
        CKP_SLH_DSA_SHA2_128F
        CKP_SLH_DSA_SHAKE_128F
        CKP_SLH_DSA_SHA2_192S
        CKP_SLH_DSA_SHAKE_192S
        CKP_SLH_DSA_SHA2_192F
        CKP_SLH_DSA_SHAKE_192F
        CKP_SLH_DSA_SHA2_256S
        CKP_SLH_DSA_SHAKE_256S
        CKP_SLH_DSA_SHA2_256F
        CKP_SLH_DSA_SHAKE_256F
    }
}
