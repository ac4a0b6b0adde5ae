//! General-purpose functions (PKCS#11 v3.0 section 5.4). The interface functions are with their lists in `ffi::table`.

use ck::Rv;
use ck::rv::CKR_ARGUMENTS_BAD;
use cryptoki_sys::{CK_INFO, CK_VERSION};

use crate::ffi::claim::{InitArgs, Out};
use crate::ffi::types::padded;
use crate::ffi::{guard, process};
use crate::library::Run;

/// Who made the module, in every structure that says so.
pub(crate) const MANUFACTURER: &str = "Craton";
/// The module's version, from the package.
pub(crate) const VERSION: CK_VERSION = CK_VERSION { major: part(0), minor: part(1) };

/// The `index`-th number of the package version.
const fn part(index: usize) -> u8 {
    let text = env!("CARGO_PKG_VERSION").as_bytes();
    let (mut at, mut dots, mut number) = (0, 0, 0u8);
    while at < text.len() {
        if text[at] == b'.' {
            dots += 1;
        } else if dots == index {
            number = number * 10 + (text[at] - b'0');
        }
        at += 1;
    }
    number
}

/// C_Initialize. Any flags and a full set of callbacks are accepted: the library makes no thread and has locks of its own.
pub(crate) fn initialize(args: InitArgs<'_>) -> Result<(), Rv> {
    args.check()?;
    guard::silence_panics();
    process::initialize()
}

/// C_Finalize.
pub(crate) fn finalize(reserved: InitArgs<'_>) -> Result<(), Rv> {
    if !reserved.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    process::finalize()
}

/// C_GetInfo.
pub(crate) fn info(_run: &Run, info: Out<'_, CK_INFO>) -> Result<(), Rv> {
    info.there()?.put(CK_INFO {
        cryptokiVersion: CK_VERSION { major: 3, minor: 0 },
        manufacturerID: padded(MANUFACTURER),
        flags: 0,
        libraryDescription: padded("Craton HSM"),
        libraryVersion: VERSION,
    });
    Ok(())
}
