//! `Debug` for the messages that may carry a PIN or a key value: the name of the message, nothing else.

use crate::v1;

macro_rules! redacted {
    ($($message:ident)*) => {
        $(
            impl core::fmt::Debug for v1::$message {
                fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                    f.write_str(concat!(stringify!($message), "(..)"))
                }
            }
        )*
    };
}

redacted! {
    InitTokenRequest InitPinRequest SetPinRequest LoginRequest AdminInitTokenRequest AdminChangePinRequest
    AdminResetPinRequest ListKeysRequest BackupRequest RotateKeyRequest UnsealRequest BackupShares Pbkdf2
}

impl core::fmt::Debug for v1::Attribute {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Attribute({:?}, ..)", ck::Attribute(self.r#type))
    }
}
