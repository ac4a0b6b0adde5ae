//! `craton-pki-client`: the device's side. Everything it does is in the library.

use std::process::ExitCode;

/// Every buffer of this process is wiped when it is freed, whichever library held it: private keys and passwords pass through
/// several.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    pki::client_main()
}
