//! Verifying signatures and MACs (PKCS#11 v3.0 section 5.15).

use ck::Rv;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism};
use crate::library::Run;
use crate::step;

const KIND: OperationKind = OperationKind::OperationVerify;

/// C_VerifyInit.
pub(crate) fn init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
    super::init::init(run, handle, KIND, &mechanism, key)
}

/// C_Verify.
pub(crate) fn verify(run: &Run, handle: u64, data: InBytes<'_>, signature: InBytes<'_>) -> Result<(), Rv> {
    step::verify(run, &*run.session(handle)?, KIND, data, Some(signature))
}

/// C_VerifyUpdate.
pub(crate) fn update(run: &Run, handle: u64, data: InBytes<'_>) -> Result<(), Rv> {
    step::absorb(run, &*run.session(handle)?, KIND, data)
}

/// C_VerifyFinal.
pub(crate) fn finish(run: &Run, handle: u64, signature: InBytes<'_>) -> Result<(), Rv> {
    step::verify_final(run, &*run.session(handle)?, KIND, Some(signature))
}
