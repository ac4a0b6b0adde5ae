//! Message digesting (PKCS#11 v3.0 section 5.12). Done by the daemon like everything else.

use ck::Rv;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism, OutBuf};
use crate::library::Run;
use crate::step;

const KIND: OperationKind = OperationKind::OperationDigest;

/// C_DigestInit.
pub(crate) fn init(run: &Run, handle: u64, mechanism: InMechanism<'_>) -> Result<(), Rv> {
    super::init::init(run, handle, KIND, &mechanism, 0)
}

/// C_Digest.
pub(crate) fn digest(run: &Run, handle: u64, data: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::one_shot(run, &*run.session(handle)?, KIND, data, &mut out)
}

/// C_DigestUpdate.
pub(crate) fn update(run: &Run, handle: u64, data: InBytes<'_>) -> Result<(), Rv> {
    step::absorb(run, &*run.session(handle)?, KIND, data)
}

/// C_DigestKey.
pub(crate) fn key(run: &Run, handle: u64, key: u64) -> Result<(), Rv> {
    step::digest_key(run, &*run.session(handle)?, key)
}

/// C_DigestFinal.
pub(crate) fn finish(run: &Run, handle: u64, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::finish(run, &*run.session(handle)?, KIND, &mut out)
}
