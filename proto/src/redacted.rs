//! `Debug` for the messages that may carry a secret (a PIN, a key value, a plaintext, the secret name of an application): the name of the
//! message, nothing else. A test holds this list to the `.proto` files: every field of bytes is here, or stands among those that are public.

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
    AdminResetPinRequest ListKeysRequest BackupRequest Pbkdf2 RotateKeyRequest UnsealRequest BackupRecipient BackupShares
    AttachRequest AttachReply OutcomeRequest OutcomeReply OneShotRequest OutputReply UpdateRequest MessageRequest MessageReply
    SavedStateReply RestoreStateRequest RandomReply SeedRandomRequest CbcData
}

impl core::fmt::Debug for v1::Attribute {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Attribute({:?}, ..)", ck::Attribute(self.r#type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of bytes that hold no secret: what went over a wire in the clear anyway, or what is encrypted.
    const PUBLIC: &[(&str, &[&str])] = &[
        ("Mechanism", &["iv"]),
        ("RsaOaep", &["label"]),
        ("Gcm", &["iv", "aad"]),
        ("AesCtr", &["block"]),
        ("Ccm", &["nonce", "aad"]),
        ("Hkdf", &["salt", "info"]),
        ("Kbkdf", &["iv"]),
        ("KbkdfField", &["bytes"]),
        ("TlsRandoms", &["client", "server"]),
        ("TlsMaster", &["session_hash"]),
        ("TlsKdf", &["label", "context"]),
        ("Ecdh1", &["shared_data", "public_data"]),
        ("EdDsa", &["context"]),
        ("EcdhAesWrap", &["shared_data"]),
        ("AeadMessage", &["iv", "aad"]),
        ("SignContext", &["context"]),
        ("HashSignContext", &["context"]),
        ("FinalRequest", &["signature"]),
        ("UnwrapKeyRequest", &["wrapped"]),
        ("UnwrapAuthenticatedRequest", &["wrapped", "tag"]),
        ("EncapsulateKeyReply", &["ciphertext"]),
        ("DecapsulateKeyRequest", &["ciphertext"]),
        ("DeriveKeyReply", &["client_iv", "server_iv"]),
        ("BackupChunk", &["data"]),
        ("ModuleKey", &["iv", "ciphertext"]),
        ("SealKeyReply", &["public_key"]),
        ("Sealed", &["enc", "ciphertext"]),
        ("SealedExchange", &["reply_key"]),
        ("HeldReply", &["root", "key", "ml_dsa_44_key"]),
        ("ShowRequest", &["before", "announcement", "after", "ml_dsa_44_key"]),
    ];

    const FILES: [&str; 10] = [
        include_str!("../craton/hsm/v1/common.proto"),
        include_str!("../craton/hsm/v1/seal.proto"),
        include_str!("../craton/hsm/v1/slot.proto"),
        include_str!("../craton/hsm/v1/session.proto"),
        include_str!("../craton/hsm/v1/object.proto"),
        include_str!("../craton/hsm/v1/crypto.proto"),
        include_str!("../craton/hsm/v1/key.proto"),
        include_str!("../craton/hsm/v1/token.proto"),
        include_str!("../craton/hsm/v1/admin.proto"),
        include_str!("../craton/hsm/v1/witness.proto"),
    ];

    /// Every field of bytes, with its message.
    fn fields() -> Vec<(String, String)> {
        let mut found = Vec::new();
        for file in FILES {
            let text: String =
                file.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
            let mut message = String::new();
            let words: Vec<&str> = text.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                match *word {
                    "message" => message = words[at + 1].to_owned(),
                    "bytes" if words.get(at + 2) == Some(&"=") => {
                        found.push((message.clone(), words[at + 1].to_owned()))
                    }
                    _ => {}
                }
            }
        }
        found
    }

    #[test]
    fn every_field_of_bytes_is_public_or_never_printed() {
        let source = include_str!("redacted.rs");
        let list = source.split("redacted! {").nth(1).and_then(|rest| rest.split('}').next()).expect("the list");
        let silent: Vec<&str> = list.split_whitespace().chain(["Attribute"]).collect();
        let found = fields();
        assert!(found.len() > 60, "{found:?}");
        for (message, field) in found {
            let is_public = PUBLIC.iter().any(|(known, fields)| *known == message && fields.contains(&field.as_str()));
            assert!(
                silent.contains(&message.as_str()) || is_public,
                "{message}.{field}: print it never (redacted!, build.rs), or say that it is public"
            );
        }
    }

    #[test]
    fn what_a_message_prints_does_not_depend_on_its_secret() {
        let pin = b"hunter2-hunter2".to_vec();
        let told = [
            format!("{:?}", v1::RotateKeyRequest { so_pin: pin.clone(), user_pin: pin.clone(), ..Default::default() }),
            format!(
                "{:?}",
                v1::UnsealRequest {
                    brought: Some(v1::unseal_request::Brought::Passphrase(pin.clone())),
                    ..Default::default()
                }
            ),
            format!("{:?}", v1::BackupShares { key: pin.clone(), ..Default::default() }),
            format!("{:?}", v1::OneShotRequest { data: pin.clone(), ..Default::default() }),
            format!("{:?}", v1::OutputReply { output: pin.clone() }),
            format!(
                "{:?}",
                v1::Reply {
                    result: Some(v1::reply::Result::Random(v1::RandomReply { bytes: pin })),
                    ..Default::default()
                }
            ),
        ];
        for text in told {
            assert!(!text.contains("hunter2") && !text.contains("104, 117"), "{text}");
        }
    }
}
