//! Verifying signatures that are known before the data (PKCS#11 3.2 section 5.15, C_VerifySignature*).

use ck::Rv;
use ck::rv::CKR_SIGNATURE_LEN_RANGE;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism};
use crate::library::Run;
use crate::step;

const KIND: OperationKind = OperationKind::OperationVerifySignature;

/// C_VerifySignatureInit.
pub(crate) fn init(
    run: &Run,
    handle: u64,
    mechanism: InMechanism<'_>,
    key: u64,
    signature: InBytes<'_>,
) -> Result<(), Rv> {
    if mechanism.get().is_none() {
        return super::init::init(run, handle, KIND, &mechanism, key);
    }
    run.session(handle)?;
    let signature = signature.present(CKR_SIGNATURE_LEN_RANGE)?;
    super::init::init_with(run, handle, KIND, &mechanism, key, |operation| operation.with_signature(signature))
}

/// C_VerifySignature.
pub(crate) fn verify(run: &Run, handle: u64, data: InBytes<'_>) -> Result<(), Rv> {
    step::verify(run, &*run.session(handle)?, KIND, data, None)
}

/// C_VerifySignatureUpdate.
pub(crate) fn update(run: &Run, handle: u64, data: InBytes<'_>) -> Result<(), Rv> {
    step::absorb(run, &*run.session(handle)?, KIND, data)
}

/// C_VerifySignatureFinal.
pub(crate) fn finish(run: &Run, handle: u64) -> Result<(), Rv> {
    step::verify_final(run, &*run.session(handle)?, KIND, None)
}
