//! THE act table: per operation, its name in the journal, who must be logged in, and when it is recorded.

use crate::audit::Category;

/// Who must be logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nobody; what private objects are concerned, the object rules say.
    Nothing,
    /// The user or the SO.
    Anyone,
    /// The SO.
    So,
}

/// When an operation is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In the transaction of its change; a failure before the answer.
    InTransaction,
    /// Before the answer, durably.
    Durably,
    /// Before the answer.
    BeforeAnswer,
    /// Before the answer, if it failed.
    OnFailure,
    /// Never.
    Never,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Act {
    /// The name in the journal.
    pub(crate) name: &'static str,
    /// Which journal level keeps it.
    pub(crate) category: Category,
    /// Who must be logged in.
    pub(crate) needs: Needs,
    /// When it is recorded.
    pub(crate) when: When,
}

macro_rules! acts {
    ($($row:ident: $name:literal, $category:ident, $needs:ident, $when:ident;)*) => {
        $(
            #[doc = concat!("`", $name, "`.")]
            pub(crate) static $row: Act =
                Act { name: $name, category: Category::$category, needs: Needs::$needs, when: When::$when };
        )*

        /// Every row.
        #[cfg(test)]
        pub(crate) static ALL: &[&Act] = &[$(&$row),*];
    };
}

acts! {
    INIT_TOKEN:        "init_token",         Admin,  Nothing, InTransaction;
    INIT_PIN:          "init_pin",           Auth,   So,      InTransaction;
    SET_PIN:           "set_pin",            Auth,   Nothing, InTransaction;
    RESET_PIN:         "reset_pin",          Auth,   Nothing, InTransaction;
    LOGIN:             "login",              Auth,   Nothing, Durably;
    REFUSE_SECRET:     "refuse_secret",      Auth,   Nothing, BeforeAnswer;
    LOGOUT:            "logout",             Auth,   Anyone,  BeforeAnswer;
    OPEN_SESSION:      "open_session",       Auth,   Nothing, OnFailure;
    SESSION_INFO:      "session_info",       Auth,   Nothing, Never;
    CREATE_OBJECT:     "create_object",      Crypto, Nothing, InTransaction;
    COPY_OBJECT:       "copy_object",        Crypto, Nothing, InTransaction;
    DESTROY_OBJECT:    "destroy_object",     Crypto, Nothing, InTransaction;
    SET_ATTRIBUTES:    "set_attributes",     Crypto, Nothing, InTransaction;
    GET_ATTRIBUTES:    "get_attributes",     Crypto, Nothing, Never;
    FIND:              "find",               Crypto, Nothing, Never;
    ENCRYPT:           "encrypt",            Crypto, Nothing, BeforeAnswer;
    DECRYPT:           "decrypt",            Crypto, Nothing, BeforeAnswer;
    SIGN:              "sign",               Crypto, Nothing, BeforeAnswer;
    VERIFY:            "verify",             Crypto, Nothing, BeforeAnswer;
    DIGEST:            "digest",             Crypto, Nothing, Never;
    DIGEST_KEY:        "digest_key",         Crypto, Nothing, BeforeAnswer;
    CHECK:             "check",              Crypto, Nothing, Never;
    RANDOM:            "random",             Crypto, Nothing, Never;
    GENERATE_KEY:      "generate_key",       Crypto, Nothing, InTransaction;
    GENERATE_KEY_PAIR: "generate_key_pair",  Crypto, Nothing, InTransaction;
    WRAP_KEY:          "wrap_key",           Crypto, Nothing, Durably;
    UNWRAP_KEY:        "unwrap_key",         Crypto, Nothing, InTransaction;
    DERIVE_KEY:        "derive_key",         Crypto, Nothing, InTransaction;
    ENCAPSULATE_KEY:   "encapsulate_key",    Crypto, Nothing, InTransaction;
    DECAPSULATE_KEY:   "decapsulate_key",    Crypto, Nothing, InTransaction;
    BACKUP:            "backup",             Admin,  Nothing, Durably;
    LIST_KEYS:         "list_keys",          Admin,  Nothing, Durably;
    AUTO_LOGIN:        "auto_login",         Auth,   Nothing, InTransaction;
    ROTATE_KEY:        "rotate_key",         Admin,  Nothing, InTransaction;
    UNSEAL:            "unseal",             Admin,  Nothing, Durably;
    WITNESS:           "witness_checkpoint", Admin,  Nothing, Durably;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|act| act.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn whatever_uses_a_private_key_is_recorded() {
        for act in
            [&SIGN, &DECRYPT, &ENCRYPT, &VERIFY, &WRAP_KEY, &UNWRAP_KEY, &DERIVE_KEY, &DECAPSULATE_KEY, &DIGEST_KEY]
        {
            assert!(!matches!(act.when, When::Never | When::OnFailure), "{}", act.name);
        }
    }
}
