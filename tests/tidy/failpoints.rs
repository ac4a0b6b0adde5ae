//! The table of failpoints (`hsm-core/src/failpoint.rs`): each name stands at exactly one place in the code, every place has its row,
//! and the chaos tests come by each.

use std::collections::BTreeMap;
use std::path::Path;

use super::{read, rust_files};

const TABLE: &str = "hsm-core/src/failpoint.rs";

fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

#[test]
fn each_failpoint_stands_at_one_place_and_is_tried() {
    let table = read(Path::new(TABLE));
    let rows = table.split_once("pub const POINTS").and_then(|(_, rest)| rest.split_once("];")).expect("the table").0;
    let mut places: BTreeMap<&str, usize> = rows
        .lines()
        .filter(|line| line.trim_start().starts_with("(\""))
        .filter_map(quoted)
        .map(|name| (name, 0))
        .collect();
    assert!(places.len() > 30, "only {} rows", places.len());
    let files = rust_files();
    let code = files.iter().filter(|(path, _)| path != Path::new(TABLE) && !path.starts_with("tests"));
    for (path, text) in code {
        for after in text.split("failpoint!(").skip(1) {
            let name = quoted(after).filter(|_| after.starts_with('"')).unwrap_or_default();
            let found = places.get_mut(name);
            *found.unwrap_or_else(|| panic!("{}: {name:?} has no row in {TABLE}", path.display())) += 1;
        }
    }
    let astray: Vec<_> = places.iter().filter(|(_, count)| **count != 1).collect();
    assert!(astray.is_empty(), "not at exactly one place: {astray:?}");
    let tried = read(Path::new("tests/chaos/failpoints.rs"));
    let untried: Vec<_> = places.keys().filter(|name| !tried.contains(&format!("\"{name}\""))).collect();
    assert!(untried.is_empty(), "no chaos test names {untried:?}");
}
