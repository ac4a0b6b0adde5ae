//! Random numbers (PKCS#11 v3.0 section 5.19).

use ck::Rv;
use ck::rv::{CKR_ARGUMENTS_BAD, CKR_DEVICE_ERROR};
use hsm_proto::v1;
use hsm_proto::v1::request::Op;

use crate::ffi::claim::{InBytes, OutExact};
use crate::library::{Run, expect_answer};

/// C_SeedRandom.
pub(crate) fn seed(run: &Run, handle: u64, seed: InBytes<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let request = v1::SeedRandomRequest { session: session.daemon_handle, seed: seed.short(CKR_ARGUMENTS_BAD)? };
    run.command(&session, Op::SeedRandom(request))
}

/// C_GenerateRandom: in as many messages as the daemon's limit asks for.
pub(crate) fn generate(run: &Run, handle: u64, mut out: OutExact<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let wanted = out.wanted()?;
    let mut done = 0;
    while done < wanted {
        let len = (wanted - done).min(run.link.max_random());
        let request = v1::RandomRequest { session: session.daemon_handle, len };
        let got = expect_answer!(run.ask(&session, Op::Random(request))?, Random)?.bytes;
        if got.len() as u64 != len {
            return Err(CKR_DEVICE_ERROR);
        }
        out.put_at(done, &got)?;
        done += len;
    }
    Ok(())
}
