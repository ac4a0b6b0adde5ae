//! The parameters of derivations as messages, and where their results go.

use ck::Rv;
use ck::parameter::{
    CK_SP800_108_BYTE_ARRAY, CK_SP800_108_COUNTER, CK_SP800_108_DKM_LENGTH, CK_SP800_108_ITERATION_VARIABLE,
    CK_SP800_108_KEY_HANDLE, KbkdfField,
};
use ck::rv::CKR_MECHANISM_PARAM_INVALID;
use hsm_proto::v1::{self, kbkdf_field::Field as WireField, mechanism::Parameter as Wire, tls_master::Seed};

use super::{MAX_AAD, MAX_INNER, carried};
use crate::ffi::parameter::Parameter;
use crate::ffi::parameter::kdf::{Field, Format, Kbkdf, Randoms};

pub(super) fn ccm(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.ccm()?;
    let (nonce, aad) = (carried(raw.nonce, MAX_INNER)?, carried(raw.aad, MAX_AAD)?);
    // SP 800-38C appendix A.1: nonces of 7 to 13 bytes, MACs of 4, 6 to 16.
    if !(7..=13).contains(&nonce.len()) || !(4..=16).contains(&raw.mac_len) || raw.mac_len % 2 != 0 {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    Ok(Wire::Ccm(v1::Ccm { data_len: raw.data_len, nonce, aad, mac_len: raw.mac_len }))
}

pub(super) fn cbc_data(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.cbc_data()?;
    Ok(Wire::CbcData(v1::CbcData { iv: raw.iv.to_vec(), data: carried(raw.data, MAX_INNER)? }))
}

pub(super) fn string_data(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    Ok(Wire::Iv(carried(parameter.string_data()?, MAX_INNER)?))
}

pub(super) fn hkdf(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.hkdf()?;
    // What a step that is not done would take is not looked at (PKCS#11 3.2 section 6.62).
    let salt = if raw.extract { carried(raw.salt, MAX_INNER)? } else { Vec::new() };
    let info = if raw.expand { carried(raw.info, MAX_INNER)? } else { Vec::new() };
    Ok(Wire::Hkdf(v1::Hkdf {
        extract: raw.extract,
        expand: raw.expand,
        hash: raw.hash,
        salt_type: raw.salt_type,
        salt,
        salt_key: raw.salt_key,
        info,
    }))
}

pub(super) fn kbkdf(raw: Kbkdf<'_>) -> Result<Wire, Rv> {
    Ok(Wire::Kbkdf(v1::Kbkdf {
        prf: raw.prf,
        fields: raw.fields.iter().map(field).collect::<Result<_, _>>()?,
        iv: raw.iv.map_or(Ok(Vec::new()), |iv| carried(iv, MAX_INNER))?,
        additional: raw.additional.iter().map(|key| key.template.read()).collect::<Result<_, _>>()?,
    }))
}

fn format(raw: Format) -> v1::KbkdfFormat {
    v1::KbkdfFormat { little_endian: raw.little_endian, width_bits: raw.width_bits }
}

fn field(raw: &Field<'_>) -> Result<v1::KbkdfField, Rv> {
    let field = match KbkdfField(raw.kind) {
        CK_SP800_108_ITERATION_VARIABLE => {
            WireField::Iteration(v1::KbkdfIteration { format: raw.counter()?.map(format) })
        }
        CK_SP800_108_COUNTER => WireField::Counter(format(raw.counter()?.ok_or(CKR_MECHANISM_PARAM_INVALID)?)),
        CK_SP800_108_DKM_LENGTH => {
            let (method, written) = raw.length()?;
            WireField::Length(v1::KbkdfLength { method, format: Some(format(written)) })
        }
        CK_SP800_108_BYTE_ARRAY => WireField::Bytes(carried(raw.bytes(), MAX_INNER)?),
        CK_SP800_108_KEY_HANDLE => WireField::Key(raw.key()?),
        _ => return Err(CKR_MECHANISM_PARAM_INVALID),
    };
    Ok(v1::KbkdfField { field: Some(field) })
}

pub(super) fn pbkdf2(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.pbkdf2()?;
    Ok(Wire::Pbkdf2(v1::Pbkdf2 {
        salt_source: raw.salt_source,
        salt: carried(raw.salt, MAX_INNER)?,
        iterations: raw.iterations,
        prf: raw.prf,
        prf_data: carried(raw.prf_data, MAX_INNER)?,
        password: carried(raw.password, MAX_INNER)?,
    }))
}

fn randoms(raw: &Randoms<'_>) -> Result<Option<v1::TlsRandoms>, Rv> {
    Ok(Some(v1::TlsRandoms { client: carried(raw.client, MAX_INNER)?, server: carried(raw.server, MAX_INNER)? }))
}

pub(super) fn tls_master(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.tls_master()?;
    let seed = randoms(&raw.randoms)?.map(Seed::Randoms);
    Ok(Wire::TlsMaster(v1::TlsMaster { hash: raw.hash, seed, wants_version: !raw.version.is_null() }))
}

pub(super) fn tls_extended_master(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.tls_extended_master()?;
    let seed = Some(Seed::SessionHash(carried(raw.session_hash, MAX_INNER)?));
    Ok(Wire::TlsMaster(v1::TlsMaster { hash: raw.hash, seed, wants_version: !raw.version.is_null() }))
}

pub(super) fn tls_keys(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.tls_keys()?;
    Ok(Wire::TlsKeys(v1::TlsKeys {
        mac_bits: raw.mac_bits,
        key_bits: raw.key_bits,
        iv_bits: raw.iv_bits,
        export: raw.export,
        randoms: randoms(&raw.randoms)?,
        hash: raw.hash,
    }))
}

pub(super) fn tls_kdf(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.tls_kdf()?;
    // No context and an empty one are different things (RFC 5705 section 4).
    let context = if raw.context.is_null() { None } else { Some(carried(raw.context, MAX_INNER)?) };
    let (label, randoms) = (carried(raw.label, MAX_INNER)?, randoms(&raw.randoms)?);
    Ok(Wire::TlsKdf(v1::TlsKdf { hash: raw.hash, label, randoms, context }))
}

pub(super) fn tls_mac(parameter: &Parameter<'_>) -> Result<Wire, Rv> {
    let raw = parameter.tls_mac()?;
    Ok(Wire::TlsMac(v1::TlsMac { hash: raw.hash, len: raw.len, side: raw.side }))
}
