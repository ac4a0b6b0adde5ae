//! Encryption (PKCS#11 v3.0 section 5.8).

use ck::Rv;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism, OutBuf};
use crate::library::Run;
use crate::step;

const KIND: OperationKind = OperationKind::OperationEncrypt;

/// C_EncryptInit.
pub(crate) fn init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
    super::init::init(run, handle, KIND, &mechanism, key)
}

/// C_Encrypt.
pub(crate) fn encrypt(run: &Run, handle: u64, data: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::one_shot(run, &*run.session(handle)?, KIND, data, &mut out)
}

/// C_EncryptUpdate.
pub(crate) fn update(run: &Run, handle: u64, data: InBytes<'_>, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::update(run, &*run.session(handle)?, KIND, data, &mut out).map(drop)
}

/// C_EncryptFinal.
pub(crate) fn finish(run: &Run, handle: u64, mut out: OutBuf<'_>) -> Result<(), Rv> {
    step::finish(run, &*run.session(handle)?, KIND, &mut out)
}
