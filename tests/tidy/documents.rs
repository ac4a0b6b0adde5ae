//! The documents at the root say what is there: folders, make targets, links.

use std::path::Path;

use acceptance::daemon::workspace;

use super::{files, read};

#[test]
fn the_readme_has_a_sentence_for_every_folder() {
    let readme = read(Path::new("README.md"));
    let mut folders: Vec<String> = files()
        .iter()
        .filter(|file| file.components().count() > 1)
        .filter_map(|file| file.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    for folder in folders.iter().filter(|folder| !folder.starts_with('.')) {
        assert!(readme.contains(&format!("`{folder}/`")), "README.md does not say what {folder}/ is");
    }
}

#[test]
fn every_make_target_of_the_readme_exists() {
    let (readme, makefile) = (read(Path::new("README.md")), read(Path::new("Makefile")));
    let mut seen = 0;
    for word in readme.split("make ").skip(1) {
        let target: String = word.chars().take_while(char::is_ascii_alphabetic).collect();
        let in_code = !target.is_empty() && readme.contains(&format!("`make {target}"));
        if in_code {
            seen += 1;
            assert!(makefile.contains(&format!("\n{target}:")), "make {target} is promised and does not exist");
        }
    }
    assert!(seen >= 3, "the README names {seen} make targets");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in files().into_iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        for link in read(&file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(workspace().join(&folder).join(target).exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}
