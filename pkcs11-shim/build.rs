//! Links the module.
//!
//! - `dlclose` never unloads it: programs unload modules at any moment, some once per test, and the thread-local scores of
//!   the express lane must not dangle.
//! - When it is built together with the daemon, cargo gives both one rustls, with AWS-LC in it. Nothing here calls AWS-LC,
//!   and unused sections are dropped, but its constructors and destructors would be kept, run in the program, and keep the
//!   rest. The linker script leaves them out.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=without-aws-lc.ld");
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the folder");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-T,{folder}/without-aws-lc.ld");
}
