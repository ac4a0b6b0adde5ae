//! The functions for parallel execution, which no Cryptoki has had since version 2.01 (PKCS#11 v3.0 section 5.20).

use ck::Rv;
use ck::rv::CKR_FUNCTION_NOT_PARALLEL;

use crate::library::Run;

/// C_GetFunctionStatus.
pub(crate) fn status(run: &Run, handle: u64) -> Result<(), Rv> {
    run.session(handle)?;
    Err(CKR_FUNCTION_NOT_PARALLEL)
}

/// C_CancelFunction.
pub(crate) fn cancel(run: &Run, handle: u64) -> Result<(), Rv> {
    run.session(handle)?;
    Err(CKR_FUNCTION_NOT_PARALLEL)
}
