//! `craton-hsm-daemon`: the program. Everything it does is in the library beside it.

use std::process::ExitCode;

/// Every buffer of this process is wiped when it is freed, whichever library held it: requests with PINs and key values
/// pass through several.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    hsm_daemon::main()
}
