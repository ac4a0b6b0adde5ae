//! The pages themselves: none without a test, none that runs nothing, and the rule for their blocks.

use std::fs;

use acceptance::daemon::workspace;

use acceptance::page::{Block, blocks, text};

/// The names of the pages, without the introduction.
fn names() -> Vec<String> {
    let files = fs::read_dir(workspace().join("docs/clients")).expect("the folder of the pages");
    let mut names: Vec<String> = files
        .map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    names.sort();
    assert!(names.len() >= 7, "the pages are {names:?}");
    names
}

#[test]
fn every_page_is_run_by_the_test_of_its_name() {
    for name in names() {
        let file = workspace().join(format!("tests/clients/{name}.rs"));
        let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(source.contains(&format!("\"{name}\"")), "{} does not run its page", file.display());
        let runs = |block: &Block| matches!(block, Block::Run(_));
        assert!(blocks(&text(&name)).iter().any(runs), "{name}.md has nothing to run");
    }
}

#[test]
fn the_introduction_names_every_page() {
    let introduction = text("README");
    for name in names() {
        assert!(introduction.contains(&format!("]({name}.md)")), "docs/clients/README.md does not name {name}.md");
    }
}

#[test]
fn a_block_is_what_its_fence_says() {
    let page =
        "text\n```sh\na\nb\n```\n```output\n c\n```\n```sh fails\nd\n```\n```ini x.cfg\ne\n```\n```console\nf\n```\n";
    let file = Block::File("x.cfg".to_owned(), "e\n".to_owned());
    let expected = [
        Block::Run("a\nb\n".to_owned()),
        Block::Output(vec!["c".to_owned()]),
        Block::Fails("d\n".to_owned()),
        file,
        Block::Read,
    ];
    assert_eq!(blocks(page), expected);
}

#[test]
#[should_panic(expected = "indented")]
fn an_indented_fence_is_refused() {
    blocks("- a list\n  ```sh\n  a\n  ```\n");
}
