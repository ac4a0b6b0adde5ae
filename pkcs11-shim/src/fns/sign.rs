//! Signing and MACing (PKCS#11 v3.0 section 5.13).

use ck::Rv;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism, OutBuf};
use crate::library::Run;
use crate::step;

const KIND: OperationKind = OperationKind::OperationSign;

/// C_SignInit.
pub(crate) fn init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
    super::init::init(run, handle, KIND, &mechanism, key)
}

/// C_Sign.
pub(crate) fn sign(run: &Run, handle: u64, data: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::one_shot(run, &*run.session(handle)?, KIND, data, &mut out)
}

/// C_SignUpdate.
pub(crate) fn update(run: &Run, handle: u64, data: InBytes<'_>) -> Result<(), Rv> {
    step::absorb(run, &*run.session(handle)?, KIND, data)
}

/// C_SignFinal.
pub(crate) fn finish(run: &Run, handle: u64, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::finish(run, &*run.session(handle)?, KIND, &mut out)
}
