//! Python: python-pkcs11 and PyKCS11.

use acceptance::page;

#[test]
fn page() {
    let test = "python::page";
    if page::python_has(test, "pkcs11") && page::python_has(test, "PyKCS11") {
        page::run("python", &[]);
    }
}
