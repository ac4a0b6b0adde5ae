//! Dual-function operations (PKCS#11 v3.0 section 5.17): one call, two operations that are active anyway.

use ck::Rv;
use ck::rv::{CKR_BUFFER_TOO_SMALL, CKR_OPERATION_NOT_INITIALIZED};
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, OutBuf};
use crate::library::Run;
use crate::step;

/// Ciphers the data, and gives the plaintext to the other operation if there was an output to give it with. An error of either
/// ends both: the one would lack what the other has had.
fn dual(
    run: &Run,
    handle: u64,
    (cipher, other): (OperationKind, OperationKind),
    data: InBytes<'_>,
    mut out: OutBuf<'_>,
) -> Result<(), Rv> {
    let session = run.session(handle)?;
    if !session.has(cipher) || !session.has(other) {
        return Err(CKR_OPERATION_NOT_INITIALIZED);
    }
    // The output may lie where the input does.
    let input = if cipher == OperationKind::OperationEncrypt {
        step::limited(cipher, data).and_then(InBytes::to_vec)
    } else {
        Ok(Vec::new())
    };
    let outcome = input.and_then(|input| match step::update(run, &session, cipher, data, &mut out)? {
        None => Ok(()),
        Some(output) => {
            let plaintext = if cipher == OperationKind::OperationEncrypt { &input } else { &output };
            step::absorb(run, &session, other, InBytes::over(plaintext))
        }
    });
    if outcome.is_err_and(|rv| rv != CKR_BUFFER_TOO_SMALL) {
        for kind in [cipher, other] {
            if let Ok(left) = session.take(kind) {
                step::abandon(run, &session, &left);
            }
        }
    }
    outcome
}

/// C_DigestEncryptUpdate.
pub(crate) fn digest_encrypt(run: &Run, handle: u64, data: InBytes<'_>, out: OutBuf<'_>) -> Result<(), Rv> {
    dual(run, handle, (OperationKind::OperationEncrypt, OperationKind::OperationDigest), data, out)
}

/// C_DecryptDigestUpdate.
pub(crate) fn decrypt_digest(run: &Run, handle: u64, data: InBytes<'_>, out: OutBuf<'_>) -> Result<(), Rv> {
    dual(run, handle, (OperationKind::OperationDecrypt, OperationKind::OperationDigest), data, out)
}

/// C_SignEncryptUpdate.
pub(crate) fn sign_encrypt(run: &Run, handle: u64, data: InBytes<'_>, out: OutBuf<'_>) -> Result<(), Rv> {
    dual(run, handle, (OperationKind::OperationEncrypt, OperationKind::OperationSign), data, out)
}

/// C_DecryptVerifyUpdate.
pub(crate) fn decrypt_verify(run: &Run, handle: u64, data: InBytes<'_>, out: OutBuf<'_>) -> Result<(), Rv> {
    dual(run, handle, (OperationKind::OperationDecrypt, OperationKind::OperationVerify), data, out)
}
