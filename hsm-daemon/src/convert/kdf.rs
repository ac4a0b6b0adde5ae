//! The parameters of derivations, and those of the ciphers that came with them.

use hsm_core::{
    HkdfParams, KbkdfCounter, KbkdfField, KbkdfParams, Parameter, Password, Pbkdf2Params, TlsKdfParams, TlsKeysParams,
    TlsMacParams, TlsMasterParams, TlsMasterSeed, TlsRandoms,
};
use hsm_proto::v1;
use hsm_proto::v1::mechanism::Parameter as Wire;
use zeroize::Zeroizing;

use super::{Refusal, template};

/// A parameter of this file.
pub(super) fn parameter(wire: Wire) -> Result<Parameter, Refusal> {
    Ok(match wire {
        Wire::Ccm(ccm) => {
            Parameter::Ccm { data_len: ccm.data_len, nonce: ccm.nonce, aad: ccm.aad, mac_len: ccm.mac_len }
        }
        Wire::Hkdf(hkdf) => Parameter::Hkdf(HkdfParams {
            extract: hkdf.extract,
            expand: hkdf.expand,
            hash: hkdf.hash,
            salt_type: hkdf.salt_type,
            salt: hkdf.salt,
            salt_key: hkdf.salt_key,
            info: hkdf.info,
        }),
        Wire::Kbkdf(kbkdf) => Parameter::Kbkdf(KbkdfParams {
            prf: kbkdf.prf,
            fields: kbkdf.fields.into_iter().map(field).collect::<Result<_, _>>()?,
            iv: kbkdf.iv,
            additional: kbkdf.additional.into_iter().map(|inner| template(Some(inner))).collect(),
        }),
        Wire::Pbkdf2(asked) => Parameter::Pbkdf2(Pbkdf2Params {
            salt_source: asked.salt_source,
            salt: asked.salt,
            iterations: asked.iterations,
            prf: asked.prf,
            prf_data: asked.prf_data,
            password: Password(Zeroizing::new(asked.password)),
        }),
        Wire::TlsMaster(master) => Parameter::TlsMaster(TlsMasterParams {
            hash: master.hash,
            seed: match master.seed {
                Some(v1::tls_master::Seed::Randoms(both)) => TlsMasterSeed::Randoms(randoms(Some(both))?),
                Some(v1::tls_master::Seed::SessionHash(hash)) => TlsMasterSeed::SessionHash(hash),
                None => return Err(Refusal::missing("seed")),
            },
            wants_version: master.wants_version,
        }),
        Wire::TlsKeys(keys) => Parameter::TlsKeys(TlsKeysParams {
            mac_bits: keys.mac_bits,
            key_bits: keys.key_bits,
            iv_bits: keys.iv_bits,
            export: keys.export,
            randoms: randoms(keys.randoms)?,
            hash: keys.hash,
        }),
        Wire::TlsKdf(kdf) => Parameter::TlsKdf(TlsKdfParams {
            hash: kdf.hash,
            label: kdf.label,
            randoms: randoms(kdf.randoms)?,
            context: kdf.context,
        }),
        Wire::TlsMac(mac) => Parameter::TlsMac(TlsMacParams { hash: mac.hash, len: mac.len, side: mac.side }),
        Wire::Key(handle) => Parameter::Key(handle),
        Wire::Number(number) => Parameter::Number(number),
        Wire::CbcData(cbc) => Parameter::CbcData { iv: cbc.iv, data: cbc.data },
        _ => return Err(Refusal::missing("parameter that is known")),
    })
}

fn randoms(wire: Option<v1::TlsRandoms>) -> Result<TlsRandoms, Refusal> {
    let both = wire.ok_or_else(|| Refusal::missing("randoms"))?;
    Ok(TlsRandoms { client: both.client, server: both.server })
}

fn format(wire: v1::KbkdfFormat) -> KbkdfCounter {
    KbkdfCounter { little_endian: wire.little_endian, width_bits: wire.width_bits }
}

fn field(wire: v1::KbkdfField) -> Result<KbkdfField, Refusal> {
    use v1::kbkdf_field::Field as Wire;
    Ok(match wire.field {
        Some(Wire::Iteration(iteration)) => KbkdfField::Iteration(iteration.format.map(format)),
        Some(Wire::Counter(counter)) => KbkdfField::Counter(format(counter)),
        Some(Wire::Length(length)) => KbkdfField::Length {
            method: length.method,
            format: format(length.format.ok_or_else(|| Refusal::missing("format"))?),
        },
        Some(Wire::Bytes(bytes)) => KbkdfField::Bytes(bytes),
        Some(Wire::Key(handle)) => KbkdfField::Key(handle),
        None => return Err(Refusal::missing("field")),
    })
}
