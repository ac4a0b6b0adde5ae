//! Go: crypto11, as Debian packages it.

use std::path::Path;

use acceptance::tools::skip;

use acceptance::page;

#[test]
fn page() {
    if !Path::new("/usr/share/gocode/src/github.com/ThalesIgnite/crypto11").is_dir() {
        return skip("go::page", "golang-github-thalesignite-crypto11-dev not found");
    }
    page::run("go", &["go", "gcc"]);
}
