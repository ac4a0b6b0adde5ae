//! CKA_* numbers, names and the kind of each value (PKCS#11 3.2 header; value types from the attribute tables of
//! PKCS#11 v3.0 chapter 4). What an attribute *means* for an object is a row of `hsm-core`'s attribute schema.

/// How the value of an attribute is laid out in a C template (PKCS#11 v3.0 §4, the "Data Type" columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `CK_BBOOL`, one byte.
    Bool,
    /// `CK_ULONG` or one of its aliases.
    Ulong,
    /// Uninterpreted bytes.
    Bytes,
    /// An unsigned integer, most significant byte first.
    BigInteger,
    /// An RFC 2279 (UTF-8) string without a terminator.
    String,
    /// `CK_DATE`: eight ASCII digits, or empty.
    Date,
    /// An array of `CK_MECHANISM_TYPE`.
    Mechanisms,
    /// An array of `CK_ATTRIBUTE`.
    Template,
}

macro_rules! attributes {
    ($($name:ident: $kind:ident)*; vendor { $($own:ident = $number:literal: $own_kind:ident)* }) => {
        registry! {
            /// An attribute type, `CK_ATTRIBUTE_TYPE`.
            Attribute { $($name)* } vendor { $($own = $number)* }
        }

        impl Attribute {
            /// The kind of the attribute's value; an attribute without a row here carries bytes.
            pub const fn kind(self) -> Kind {
                match self {
                    $($name => Kind::$kind,)*
                    $($own => Kind::$own_kind,)*
                    _ => Kind::Bytes,
                }
            }
        }
    };
}

attributes! {
    CKA_CLASS: Ulong
    CKA_TOKEN: Bool
    CKA_PRIVATE: Bool
    CKA_LABEL: String
    CKA_UNIQUE_ID: String
    CKA_APPLICATION: String
    CKA_VALUE: Bytes
    CKA_OBJECT_ID: Bytes
    CKA_CERTIFICATE_TYPE: Ulong
    CKA_ISSUER: Bytes
    CKA_SERIAL_NUMBER: Bytes
    CKA_AC_ISSUER: Bytes
    CKA_OWNER: Bytes
    CKA_ATTR_TYPES: Bytes
    CKA_TRUSTED: Bool
    CKA_CERTIFICATE_CATEGORY: Ulong
    CKA_JAVA_MIDP_SECURITY_DOMAIN: Ulong
    CKA_URL: String
    CKA_HASH_OF_SUBJECT_PUBLIC_KEY: Bytes
    CKA_HASH_OF_ISSUER_PUBLIC_KEY: Bytes
    CKA_NAME_HASH_ALGORITHM: Ulong
    CKA_CHECK_VALUE: Bytes
    CKA_KEY_TYPE: Ulong
    CKA_SUBJECT: Bytes
    CKA_ID: Bytes
    CKA_SENSITIVE: Bool
    CKA_ENCRYPT: Bool
    CKA_DECRYPT: Bool
    CKA_WRAP: Bool
    CKA_UNWRAP: Bool
    CKA_SIGN: Bool
    CKA_SIGN_RECOVER: Bool
    CKA_VERIFY: Bool
    CKA_VERIFY_RECOVER: Bool
    CKA_DERIVE: Bool
    CKA_START_DATE: Date
    CKA_END_DATE: Date
    CKA_MODULUS: BigInteger
    CKA_MODULUS_BITS: Ulong
    CKA_PUBLIC_EXPONENT: BigInteger
    CKA_PRIVATE_EXPONENT: BigInteger
    CKA_PRIME_1: BigInteger
    CKA_PRIME_2: BigInteger
    CKA_EXPONENT_1: BigInteger
    CKA_EXPONENT_2: BigInteger
    CKA_COEFFICIENT: BigInteger
    CKA_PUBLIC_KEY_INFO: Bytes
    CKA_PRIME: BigInteger
    CKA_SUBPRIME: BigInteger
    CKA_BASE: BigInteger
    CKA_PRIME_BITS: Ulong
    CKA_SUBPRIME_BITS: Ulong
    CKA_VALUE_BITS: Ulong
    CKA_VALUE_LEN: Ulong
    CKA_EXTRACTABLE: Bool
    CKA_LOCAL: Bool
    CKA_NEVER_EXTRACTABLE: Bool
    CKA_ALWAYS_SENSITIVE: Bool
    CKA_KEY_GEN_MECHANISM: Ulong
    CKA_MODIFIABLE: Bool
    CKA_COPYABLE: Bool
    CKA_DESTROYABLE: Bool
    CKA_EC_PARAMS: Bytes
    CKA_EC_POINT: Bytes
    CKA_ALWAYS_AUTHENTICATE: Bool
    CKA_WRAP_WITH_TRUSTED: Bool
    CKA_HW_FEATURE_TYPE: Ulong
    CKA_RESET_ON_INIT: Bool
    CKA_HAS_RESET: Bool
    CKA_MECHANISM_TYPE: Ulong
    CKA_PROFILE_ID: Ulong
    CKA_HSS_LEVELS: Ulong
    CKA_HSS_LMS_TYPE: Ulong
    CKA_HSS_LMOTS_TYPE: Ulong
    CKA_HSS_KEYS_REMAINING: Ulong
    CKA_PARAMETER_SET: Ulong
    CKA_OBJECT_VALIDATION_FLAGS: Ulong
    CKA_VALIDATION_TYPE: Ulong
    CKA_VALIDATION_VERSION: Bytes
    CKA_VALIDATION_LEVEL: Ulong
    CKA_VALIDATION_MODULE_ID: String
    CKA_VALIDATION_FLAG: Ulong
    CKA_VALIDATION_AUTHORITY_TYPE: Ulong
    CKA_VALIDATION_COUNTRY: String
    CKA_VALIDATION_CERTIFICATE_IDENTIFIER: String
    CKA_VALIDATION_CERTIFICATE_URI: String
    CKA_VALIDATION_VENDOR_URI: String
    CKA_VALIDATION_PROFILE: String
    CKA_ENCAPSULATE_TEMPLATE: Template
    CKA_DECAPSULATE_TEMPLATE: Template
    CKA_TRUST_SERVER_AUTH: Ulong
    CKA_TRUST_CLIENT_AUTH: Ulong
    CKA_TRUST_CODE_SIGNING: Ulong
    CKA_TRUST_EMAIL_PROTECTION: Ulong
    CKA_TRUST_IPSEC_IKE: Ulong
    CKA_TRUST_TIME_STAMPING: Ulong
    CKA_TRUST_OCSP_SIGNING: Ulong
    CKA_ENCAPSULATE: Bool
    CKA_DECAPSULATE: Bool
    CKA_HASH_OF_CERTIFICATE: Bytes
    CKA_PUBLIC_CRC64_VALUE: Bytes
    CKA_SEED: Bytes
    CKA_WRAP_TEMPLATE: Template
    CKA_UNWRAP_TEMPLATE: Template
    CKA_DERIVE_TEMPLATE: Template
    CKA_ALLOWED_MECHANISMS: Mechanisms;
    vendor {
        CKA_CRATON_ISSUANCE_POLICY = 0xC352_0001: Bytes
        CKA_CRATON_SIGNATURE_COUNT = 0xC352_0002: Ulong
    }
}

impl Attribute {
    /// The attributes that hold the value of a secret or private key: what a sensitive one does not reveal.
    pub const KEY_PARTS: [Attribute; 8] = [
        CKA_VALUE,
        CKA_PRIVATE_EXPONENT,
        CKA_PRIME_1,
        CKA_PRIME_2,
        CKA_EXPONENT_1,
        CKA_EXPONENT_2,
        CKA_COEFFICIENT,
        CKA_SEED,
    ];

    /// Whether it is one of [`Attribute::KEY_PARTS`].
    pub fn is_key_part(self) -> bool {
        Self::KEY_PARTS.contains(&self)
    }
}
