//! Signing and verifying with recovery of the data (PKCS#11 v3.0 sections 5.13 and 5.15): in one part only.

use ck::Rv;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism, OutBuf};
use crate::library::Run;
use crate::step;

const SIGN: OperationKind = OperationKind::OperationSignRecover;
const VERIFY: OperationKind = OperationKind::OperationVerifyRecover;

/// C_SignRecoverInit.
pub(crate) fn sign_init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
    super::init::init(run, handle, SIGN, &mechanism, key)
}

/// C_SignRecover.
pub(crate) fn sign(run: &Run, handle: u64, data: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::one_shot(run, &*run.session(handle)?, SIGN, data, &mut out)
}

/// C_VerifyRecoverInit.
pub(crate) fn verify_init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
    super::init::init(run, handle, VERIFY, &mechanism, key)
}

/// C_VerifyRecover.
pub(crate) fn verify(run: &Run, handle: u64, signature: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::one_shot(run, &*run.session(handle)?, VERIFY, signature, &mut out)
}
