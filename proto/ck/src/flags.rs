//! CKF_*, CKU_* and CKS_* numbers (PKCS#11 3.2 header), grouped by the structure that carries them.

macro_rules! flags {
    ($(#[$doc:meta])* $module:ident { $($name:ident)* }) => {
        $(#[$doc])*
        pub mod $module {
            $(
                #[doc = concat!("`", stringify!($name), "` of the PKCS#11 3.2 header.")]
                pub const $name: u64 = cryptoki_sys::$name as u64;
            )*
        }
    };
}

flags! {
    /// Flags of `CK_TOKEN_INFO`.
    token {
        CKF_RNG CKF_WRITE_PROTECTED CKF_LOGIN_REQUIRED CKF_USER_PIN_INITIALIZED CKF_TOKEN_INITIALIZED
        CKF_USER_PIN_COUNT_LOW CKF_USER_PIN_FINAL_TRY CKF_USER_PIN_LOCKED CKF_USER_PIN_TO_BE_CHANGED
        CKF_SO_PIN_COUNT_LOW CKF_SO_PIN_FINAL_TRY CKF_SO_PIN_LOCKED CKF_SO_PIN_TO_BE_CHANGED CKF_ERROR_STATE
        CKF_CLOCK_ON_TOKEN CKF_DUAL_CRYPTO_OPERATIONS CKF_PROTECTED_AUTHENTICATION_PATH
    }
}

flags! {
    /// Flags of `CK_SLOT_INFO`.
    slot { CKF_TOKEN_PRESENT CKF_REMOVABLE_DEVICE CKF_HW_SLOT }
}

flags! {
    /// Flags of `CK_SESSION_INFO` and `C_OpenSession`.
    session { CKF_RW_SESSION CKF_SERIAL_SESSION CKF_ASYNC_SESSION }
}

flags! {
    /// Flags of `CK_MECHANISM_INFO`.
    mechanism {
        CKF_HW CKF_MESSAGE_ENCRYPT CKF_MESSAGE_DECRYPT CKF_MESSAGE_SIGN CKF_MESSAGE_VERIFY CKF_MULTI_MESSAGE
        CKF_FIND_OBJECTS CKF_ENCRYPT CKF_DECRYPT CKF_DIGEST CKF_SIGN CKF_SIGN_RECOVER CKF_VERIFY CKF_VERIFY_RECOVER
        CKF_GENERATE CKF_GENERATE_KEY_PAIR CKF_WRAP CKF_UNWRAP CKF_DERIVE CKF_EC_F_P CKF_EC_F_2M
        CKF_EC_ECPARAMETERS CKF_EC_OID CKF_EC_UNCOMPRESS CKF_EC_COMPRESS CKF_EC_CURVENAME CKF_ENCAPSULATE
        CKF_DECAPSULATE CKF_EXTENSION
    }
}

flags! {
    /// Flags of `C_EncryptMessageNext` and `C_DecryptMessageNext`, and the types of `C_GetSessionValidationFlags`.
    message { CKF_END_OF_MESSAGE CKS_LAST_VALIDATION_OK }
}

flags! {
    /// User types of `C_Login`.
    user { CKU_SO CKU_USER CKU_CONTEXT_SPECIFIC }
}

flags! {
    /// Session states of `CK_SESSION_INFO`.
    state {
        CKS_RO_PUBLIC_SESSION CKS_RO_USER_FUNCTIONS CKS_RW_PUBLIC_SESSION CKS_RW_USER_FUNCTIONS CKS_RW_SO_FUNCTIONS
    }
}
