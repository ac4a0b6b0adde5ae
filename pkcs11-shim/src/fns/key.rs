//! Key management (PKCS#11 v3.0 section 5.18).

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_DEVICE_ERROR, CKR_MECHANISM_PARAM_INVALID, CKR_WRAPPED_KEY_LEN_RANGE};
use cryptoki_sys::CK_VERSION;
use hsm_proto::v1;
use hsm_proto::v1::request::Op;

use super::object::make;
use crate::ffi::claim::{InBytes, InMechanism, Out, OutBuf, Template};
use crate::library::{Run, expect_answer};
use crate::params::{self, Returns};
use crate::step;

/// C_GenerateKey.
pub(crate) fn generate(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    template: Template<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let (mechanism, template) = (Some(params::required(&mechanism)?), Some(template.read()?));
    let request = v1::GenerateKeyRequest { session: session.daemon_handle, mechanism, template };
    make(run, &session, Op::GenerateKey(request), place)
}

/// C_GenerateKeyPair.
pub(crate) fn generate_pair(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    public: Template<'_>,
    private: Template<'_>,
    public_place: Out<'_, u64>,
    private_place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let (public_place, private_place) = (public_place.there()?, private_place.there()?);
    let request = v1::GenerateKeyPairRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        public_template: Some(public.read()?),
        private_template: Some(private.read()?),
    };
    let pair = expect_answer!(run.ask(&session, Op::GenerateKeyPair(request))?, KeyPair)?;
    let (public, private) = pair.public_key.zip(pair.private_key).ok_or(CKR_DEVICE_ERROR)?;
    public_place.put(public.object);
    private_place.put(private.object);
    Ok(())
}

/// C_WrapKey. How long a wrapped key is only the daemon knows; a capacity of nothing makes it say so.
pub(crate) fn wrap(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    wrapping_key: u64,
    key: u64,
    mut out: OutBuf<'_>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let room = out.room()?;
    let request = v1::WrapKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        wrapping_key,
        key,
        capacity: step::capacity(room),
    };
    match run.ask(&session, Op::WrapKey(request)) {
        Ok(answer) => out.put(&expect_answer!(answer, Output)?.output),
        Err(refusal) => step::too_small(refusal, room, &mut out).map(drop).map_err(Rv::from),
    }
}

/// C_UnwrapKey.
pub(crate) fn unwrap(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    unwrapping_key: u64,
    wrapped: InBytes<'_>,
    template: Template<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let request = v1::UnwrapKeyRequest {
        session: session.daemon_handle,
        mechanism: Some(params::required(&mechanism)?),
        unwrapping_key,
        wrapped: wrapped.present(CKR_WRAPPED_KEY_LEN_RANGE)?,
        template: Some(template.read()?),
    };
    make(run, &session, Op::UnwrapKey(request), place)
}

/// C_DeriveKey. The keys of a TLS connection have their handles in the parameter, and no other.
pub(crate) fn derive(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    base_key: u64,
    template: Template<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let returns = params::returns(&mechanism)?;
    let place = if let Returns::Connection(_) = returns { None } else { Some(place.there()?) };
    let (mechanism, template) = (Some(params::required(&mechanism)?), Some(template.read()?));
    let request = v1::DeriveKeyRequest { session: session.daemon_handle, mechanism, base_key, template };
    let reply = expect_answer!(run.ask(&session, Op::DeriveKey(request))?, Derived)?;
    let mut handles = reply.keys.into_iter().map(|key| key.object);
    if let Some(place) = place {
        place.put(handles.next().ok_or(CKR_DEVICE_ERROR)?);
    }
    match returns {
        Returns::Handle => {}
        Returns::Version(to) => {
            let version = reply.version.and_then(|version| u16::try_from(version).ok()).map(u16::to_be_bytes);
            if let (Some(to), Some([major, minor])) = (to, version) {
                to.put(CK_VERSION { major, minor });
            }
        }
        Returns::Connection(to) => {
            let handles: Vec<u64> = handles.collect();
            let handles = handles.try_into().map_err(|_| CKR_DEVICE_ERROR)?;
            to.put(handles, [&reply.client_iv, &reply.server_iv]).map_err(|_| CKR_DEVICE_ERROR)?;
        }
        Returns::Additional(places) => {
            for to in places {
                to.put(handles.next().ok_or(CKR_DEVICE_ERROR)?);
            }
        }
    }
    Ok(())
}

/// C_WrapKeyAuthenticated: IV and tag go into the mechanism's parameter.
pub(crate) fn wrap_authenticated(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    wrapping_key: u64,
    key: u64,
    aad: InBytes<'_>,
    mut out: OutBuf<'_>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let room = out.room()?;
    let (number, parameter) = mechanism.get().ok_or(CKR_ARGUMENTS_BAD)?;
    let (mechanism, mut sealed) = params::sealed(number, parameter, aad)?;
    sealed.tag_place.wanted().map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
    let request = v1::WrapAuthenticatedRequest {
        session: session.daemon_handle,
        mechanism: Some(mechanism),
        wrapping_key,
        key,
        capacity: step::capacity(room),
    };
    match run.ask(&session, Op::WrapAuthenticated(request)) {
        Ok(answer) => {
            let wrapped = expect_answer!(answer, Message)?;
            sealed.tag_place.fill(&wrapped.tag).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
            sealed.iv_place.fill(&wrapped.iv).map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
            out.put(&wrapped.output)
        }
        Err(refusal) => step::too_small(refusal, room, &mut out).map(drop).map_err(Rv::from),
    }
}

/// C_UnwrapKeyAuthenticated.
#[expect(clippy::too_many_arguments, reason = "the arguments of the C function")]
pub(crate) fn unwrap_authenticated(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    unwrapping_key: u64,
    wrapped: InBytes<'_>,
    template: Template<'_>,
    aad: InBytes<'_>,
    place: Out<'_, u64>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let place = place.there()?;
    let (number, parameter) = mechanism.get().ok_or(CKR_ARGUMENTS_BAD)?;
    let (mechanism, sealed) = params::sealed(number, parameter, aad)?;
    let request = v1::UnwrapAuthenticatedRequest {
        session: session.daemon_handle,
        mechanism: Some(mechanism),
        unwrapping_key,
        wrapped: wrapped.present(CKR_WRAPPED_KEY_LEN_RANGE)?,
        tag: params::tag(&sealed)?,
        template: Some(template.read()?),
    };
    make(run, &session, Op::UnwrapAuthenticated(request), place)
}
