//! The C structures, which come from cryptoki-sys, and the texts they carry.

/// `text` cut to `N` bytes at a character boundary and padded with blanks, as the standard wants fixed strings
/// (PKCS#11 v3.0 section 3.1).
pub(crate) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = [b' '; N];
    for (place, byte) in out.iter_mut().zip(text.as_bytes().iter().take(end)) {
        *place = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::*;

    #[test]
    fn fixed_strings_are_padded_and_never_split_a_character() {
        assert_eq!(&padded::<8>("Craton"), b"Craton  ");
        assert_eq!(&padded::<4>("Craton"), b"Crat");
        assert_eq!(&padded::<4>("abc\u{e9}"), b"abc ");
    }

    /// Sizes of the 64-bit Unix ABI, counted by hand from the members.
    #[test]
    fn structures_have_the_size_of_the_c_abi() {
        let rows = [
            (size_of::<CK_ATTRIBUTE>(), 24, "CK_ATTRIBUTE"),
            (size_of::<CK_MECHANISM>(), 24, "CK_MECHANISM"),
            (size_of::<CK_INFO>(), 88, "CK_INFO"),
            (size_of::<CK_SLOT_INFO>(), 112, "CK_SLOT_INFO"),
            (size_of::<CK_TOKEN_INFO>(), 208, "CK_TOKEN_INFO"),
            (size_of::<CK_SESSION_INFO>(), 32, "CK_SESSION_INFO"),
            (size_of::<CK_MECHANISM_INFO>(), 24, "CK_MECHANISM_INFO"),
            (size_of::<CK_INTERFACE>(), 24, "CK_INTERFACE"),
            (size_of::<CK_C_INITIALIZE_ARGS>(), 48, "CK_C_INITIALIZE_ARGS"),
            (size_of::<CK_GCM_PARAMS>(), 48, "CK_GCM_PARAMS"),
            (size_of::<CK_RSA_PKCS_PSS_PARAMS>(), 24, "CK_RSA_PKCS_PSS_PARAMS"),
            (size_of::<CK_RSA_PKCS_OAEP_PARAMS>(), 40, "CK_RSA_PKCS_OAEP_PARAMS"),
            (size_of::<CK_ECDH1_DERIVE_PARAMS>(), 40, "CK_ECDH1_DERIVE_PARAMS"),
            (size_of::<CK_EDDSA_PARAMS>(), 24, "CK_EDDSA_PARAMS"),
            (size_of::<CK_SIGN_ADDITIONAL_CONTEXT>(), 24, "CK_SIGN_ADDITIONAL_CONTEXT"),
        ];
        for (is, should, name) in rows {
            assert_eq!(is, should, "{name}");
        }
    }
}
