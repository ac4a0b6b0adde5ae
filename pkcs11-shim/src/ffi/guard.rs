//! Around every C function: no panic leaves, nothing works before `C_Initialize` or in a forked child.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use ck::Rv;
use ck::rv::{CKR_CRYPTOKI_NOT_INITIALIZED, CKR_GENERAL_ERROR, CKR_OK};
use cryptoki_sys::CK_RV;

use super::process;
use crate::library::Run;

/// A function that works whether or not the library is initialised.
pub(crate) fn bare(body: impl FnOnce() -> Result<(), Rv>) -> CK_RV {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CKR_OK.0,
        Ok(Err(rv)) => rv.0,
        Err(payload) => {
            // The payload's destructor could panic in its turn.
            std::mem::forget(payload);
            CKR_GENERAL_ERROR.0
        }
    }
}

/// A function that needs `C_Initialize` in this very process. What fails because C_Finalize came in between says so: the call meets
/// sessions that are already closed, here or at the daemon.
pub(crate) fn run(body: impl FnOnce(&Run) -> Result<(), Rv>) -> CK_RV {
    bare(|| {
        let run = process::library()?;
        body(&run).map_err(|rv| if run.is_finalized() { CKR_CRYPTOKI_NOT_INITIALIZED } else { rv })
    })
}

/// The standard panic hook writes to standard error, which may be the protocol of the program that loaded us. The hook
/// belongs to this library's own copy of `std`; the host's is not touched.
pub(crate) fn silence_panics() {
    static SILENCED: Once = Once::new();
    if !cfg!(test) {
        SILENCED.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::rv::CKR_ARGUMENTS_BAD;

    #[test]
    fn results_become_return_values_and_a_panic_a_general_error() {
        assert_eq!(bare(|| Ok(())), CKR_OK.0);
        assert_eq!(bare(|| Err(CKR_ARGUMENTS_BAD)), CKR_ARGUMENTS_BAD.0);
        assert_eq!(bare(|| panic!("on purpose")), CKR_GENERAL_ERROR.0);
    }
}
