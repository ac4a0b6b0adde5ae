//! `craton-pki`: the program. Everything it does is in the library beside it.

use std::process::ExitCode;

/// Every buffer of this process is wiped when it is freed, whichever library held it: keys made for devices, PINs and passwords pass through
/// several.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    pki::main()
}
