//! `Debug` for the messages that have a field of bytes, which may be a secret (a PIN, a key value, a plaintext, the secret name of an
//! application): the name of the message, nothing else. The build script finds them, so that a new field is silent without a word here.

use crate::v1;

macro_rules! redacted {
    ($($($part:ident)::+)*) => {
        $(
            impl core::fmt::Debug for v1::$($part)::+ {
                fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                    f.write_str(concat!(stringify!($($part)::+), "(..)"))
                }
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/redacted.rs"));

impl core::fmt::Debug for v1::Attribute {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Attribute({:?}, ..)", ck::Attribute(self.r#type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            format!("{:?}", v1::backup_recipient::Whom::Passphrase(pin.clone())),
            format!("{:?}", v1::Attribute { r#type: 0, value: Some(v1::attribute::Value::Bytes(pin.clone())) }),
            format!("{:?}", v1::LoginRequest { pin: pin.clone(), ..Default::default() }),
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
