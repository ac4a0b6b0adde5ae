//! Links the module so that `dlclose` never unloads it: programs unload modules at any moment, some once per test, and
//! the thread-local scores of the express lane must not dangle.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
