//! No file of a crate imports itself by way of others: what two files need stands in a third below them. Read from the sources'
//! own paths: `use`, and paths that begin with `crate`, `self`, `super`, a child or an imported module; a name that a file only
//! hands on leads to where it is defined. What a folder's own file defines is the ground of all in the folder: they may take it,
//! and it may hold them. Items of tests are no part of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// The crates whose files stand in an order.
const CRATES: [&str; 9] =
    ["proto/ck", "proto", "hsm-core", "hsm-daemon", "pkcs11-shim", "admin-cli", "pki", "fuzz", "tests"];

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let sources = super::rust_files();
    for room in CRATES {
        let house = House::read(room, &sources);
        assert!(house.files.len() > 5, "{room}: {} files", house.files.len());
        let loops = house.loops();
        assert!(loops.is_empty(), "{room}:\n{}", loops.join("\n"));
    }
}

#[test]
fn a_loop_is_seen_through_a_name_that_is_handed_on() {
    let file = |name: &str, source: &str| (PathBuf::from(format!("a/src/{name}")), source.to_owned());
    let mut sources = vec![
        file("lib.rs", "mod desk; mod pen; mod word;"),
        file("desk/mod.rs", "mod lamp; pub use lamp::Lamp; pub struct Desk { pen: crate::pen::Pen, lamp: Lamp }"),
        file("desk/lamp.rs", "use super::Desk; use crate::word::Word; pub struct Lamp(Word); fn on(desk: Desk) {}"),
        file(
            "pen.rs",
            "use crate::desk::Lamp; pub struct Pen(Lamp); #[cfg(test)] mod tests { use crate::desk::Desk; }",
        ),
        file("word.rs", "// crate::pen::Pen\npub struct Word(&'static str); const NAME: &str = \"crate::pen::Pen\";"),
    ];
    assert_eq!(House::read("a", &sources).loops(), Vec::<String>::new());
    sources[4].1.push_str("fn pen() -> super::pen::Pen {}");
    let found = "a/src/desk/lamp.rs -(Word)-> a/src/word.rs -(Pen)-> a/src/pen.rs -(Lamp)-> a/src/desk/lamp.rs";
    assert_eq!(House::read("a", &sources).loops(), [found]);
}

/// A path from the crate's root.
type Names = Vec<String>;

/// One source file as a module.
struct File {
    path: PathBuf,
    /// Where it stands in the tree of modules.
    at: Names,
    /// What it names although it is defined elsewhere, and where that is.
    imported: BTreeMap<String, Names>,
    /// From where it hands on everything.
    globs: Vec<Names>,
    /// The names that it defines.
    defined: BTreeSet<String>,
    /// The paths that it uses.
    used: BTreeSet<Names>,
}

struct House {
    files: Vec<File>,
    /// Where each module lies among them.
    modules: BTreeMap<Names, usize>,
}

impl House {
    /// The files of the crate in the folder `room`, without those that only tests have.
    fn read(room: &str, sources: &[(PathBuf, String)]) -> Self {
        let mut files = Vec::new();
        let mut of_tests = Vec::new();
        for (path, source) in sources {
            let Some(at) = path.strip_prefix(room).ok().and_then(|path| path.strip_prefix("src").ok()).and_then(module)
            else {
                continue;
            };
            let words = without_tests(words(source), |name| of_tests.push(below(&at, &name)));
            files.push((path.clone(), at, words));
        }
        files.retain(|(_, at, _)| !of_tests.iter().any(|tests| at.starts_with(tests)));
        let modules: BTreeMap<Names, usize> =
            files.iter().enumerate().map(|(number, (_, at, _))| (at.clone(), number)).collect();
        let files = files.into_iter().map(|(path, at, words)| File::read(path, at, &words, &modules)).collect();
        House { files, modules }
    }

    /// The file that defines what a path names; none where it names a whole module, or nothing of this crate's.
    fn home(&self, path: &[String], steps: u8) -> Option<usize> {
        let mut here = Names::new();
        for (number, name) in path.iter().enumerate() {
            let next = below(&here, name);
            if self.modules.contains_key(&next) {
                here = next;
                continue;
            }
            let file = &self.files[*self.modules.get(&here)?];
            if file.defined.contains(name) || steps == 0 {
                return self.modules.get(&here).copied();
            }
            if let Some(target) = file.imported.get(name) {
                return self.home(&[target, &path[number + 1..]].concat(), steps - 1);
            }
            let mut handed_on = file.globs.iter().filter_map(|glob| {
                let defines = self.modules.get(glob).is_some_and(|at| self.files[*at].defined.contains(name));
                defines.then(|| self.modules[glob])
            });
            return handed_on.next().or_else(|| self.modules.get(&here).copied());
        }
        None
    }

    /// What each file takes from which other.
    fn arrows(&self) -> Vec<BTreeMap<usize, &str>> {
        let mut arrows = Vec::new();
        for file in &self.files {
            let homes = file.used.iter().filter_map(|path| Some((self.home(path, 16)?, path.last()?.as_str())));
            // What the own file of a folder defines is the ground of all that stands in the folder (itself among it).
            arrows.push(homes.filter(|(home, _)| !file.at.starts_with(&self.files[*home].at)).collect());
        }
        arrows
    }

    /// The shortest way back to itself of each file that has one and stands on no way that was told already.
    fn loops(&self) -> Vec<String> {
        let arrows = self.arrows();
        let (mut told, mut loops) = (BTreeSet::new(), Vec::new());
        for start in 0..self.files.len() {
            let Some(way) = way_back(start, &arrows).filter(|_| !told.contains(&start)) else { continue };
            let mut text = self.files[start].path.display().to_string();
            for (from, to) in way.iter().zip(way.iter().skip(1).chain(&way[..1])) {
                text += &format!(" -({})-> {}", arrows[*from][to], self.files[*to].path.display());
            }
            loops.push(text);
            told.extend(way);
        }
        loops
    }
}

/// The files from one on, up to the last before it comes again.
fn way_back(start: usize, arrows: &[BTreeMap<usize, &str>]) -> Option<Vec<usize>> {
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(here) = waiting.pop_front() {
        for next in arrows[here].keys() {
            if *next == start {
                let mut way = vec![here];
                while let Some(earlier) = before.get(way.last()?) {
                    way.push(*earlier);
                }
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(next) {
                before.insert(*next, here);
                waiting.push_back(*next);
            }
        }
    }
    None
}

impl File {
    fn read(path: PathBuf, at: Names, words: &[String], modules: &BTreeMap<Names, usize>) -> Self {
        let mut file = File {
            path,
            at,
            imported: BTreeMap::new(),
            globs: Vec::new(),
            defined: BTreeSet::new(),
            used: BTreeSet::new(),
        };
        const KINDS: [&str; 8] = ["struct", "enum", "fn", "trait", "type", "const", "static", "union"];
        let mut rest = Vec::new();
        let mut handed_on = Vec::new();
        let mut number = 0;
        while number < words.len() {
            if words[number] == "use" {
                let end = words[number..].iter().position(|word| word == ";").map_or(words.len(), |at| number + at);
                // `pub use`, or `pub(crate) use`: nothing is used by handing it on.
                let is_handed_on = number > 0 && (words[number - 1] == "pub" || words[number - 1] == ")");
                for (name, path) in leaves(&words[number + 1..end]) {
                    let Some(path) = file.absolute(&path, modules) else { continue };
                    match (name.as_str(), is_handed_on) {
                        ("*", true) => file.globs.push(path),
                        ("*", false) => drop(file.used.insert(below(&path, "*"))),
                        (_, true) => {
                            handed_on.push((name.clone(), path.clone()));
                            file.imported.insert(name, path);
                        }
                        (_, false) => {
                            file.used.insert(path.clone());
                            file.imported.insert(name, path);
                        }
                    }
                }
                number = end + 1;
                continue;
            }
            if KINDS.contains(&words[number].as_str()) && words.get(number + 1).is_some_and(|word| is_name(word)) {
                file.defined.insert(words[number + 1].clone());
            }
            rest.push(words[number].clone());
            number += 1;
        }
        for (name, path) in handed_on {
            if rest.contains(&name) {
                file.used.insert(path);
            }
        }
        file.read_paths(&rest, modules);
        file
    }

    /// The paths in the code itself.
    fn read_paths(&mut self, words: &[String], modules: &BTreeMap<Names, usize>) {
        let mut number = 0;
        while number < words.len() {
            let mut path = vec![words[number].clone()];
            let inside = number > 0 && words[number - 1] == "::";
            number += 1;
            while !inside && words.get(number).is_some_and(|word| word == "::") {
                let Some(name) = words.get(number + 1).filter(|word| is_name(word)) else { break };
                path.push(name.clone());
                number += 2;
            }
            if path.len() > 1
                && let Some(path) = self.absolute(&path, modules)
            {
                self.used.insert(path);
            }
        }
    }

    /// A path as the file writes it, from the crate's root; none for what is not this crate's.
    fn absolute(&self, path: &[String], modules: &BTreeMap<Names, usize>) -> Option<Names> {
        let mut here = self.at.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => (here, rest) = (Names::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            name if modules.contains_key(&below(&here, name)) => {}
            name => (here, rest) = (self.imported.get(name)?.clone(), &rest[1..]),
        }
        Some([&here, rest].concat())
    }
}

/// Where a file below `src` stands in the tree of modules; none for a program of its own.
fn module(path: &Path) -> Option<Names> {
    let mut names: Names = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let last = names.pop()?;
    match last.strip_suffix(".rs")? {
        "lib" | "main" if names.is_empty() => {}
        "mod" => {}
        _ if names.first().is_some_and(|name| name == "bin") => return None,
        name => names.push(name.to_owned()),
    }
    Some(names)
}

fn below(at: &[String], name: &str) -> Names {
    [at, &[name.to_owned()]].concat()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The paths of a `use`, each with the name that it has here.
fn leaves(tree: &[String]) -> Vec<(String, Names)> {
    let mut found = Vec::new();
    let (mut path, mut outer) = (Names::new(), Vec::new());
    let (mut name, mut is_renamed) = (None, false);
    let end = ",".to_owned();
    for word in tree.iter().chain([&end]) {
        match word.as_str() {
            "::" => {}
            "{" => outer.push(path.clone()),
            "," | "}" => {
                if let Some(name) = name.take() {
                    // `{self}` is the module itself, under its own name.
                    let is_self = path.len() > 1 && path.last().is_some_and(|last| last == "self");
                    is_self.then(|| path.pop());
                    let name = if is_self && name == "self" { path.last().cloned().unwrap_or_default() } else { name };
                    if name == "*" {
                        path.pop();
                    }
                    found.push((name, path));
                }
                if word == "}" {
                    outer.pop();
                }
                path = outer.last().cloned().unwrap_or_default();
            }
            "as" => is_renamed = true,
            _ if is_renamed => (name, is_renamed) = (Some(word.clone()), false),
            _ => {
                path.push(word.clone());
                name = Some(word.clone());
            }
        }
    }
    found
}

/// The words and signs of a source, without comments and what stands between quotation marks.
fn words(source: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '"' => quoted(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let close = if rest.starts_with("r\"") { "\"" } else { "\"#" };
                rest[3..].find(close).map_or(rest.len(), |at| at + 3 + close.len())
            }
            // A character, or the name of a lifetime.
            '\'' => match rest[1..].chars().next() {
                Some('\\') => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
                Some(one) if rest[1 + one.len_utf8()..].starts_with('\'') => 2 + one.len_utf8(),
                _ => 1,
            },
            _ if is_name(rest) => {
                let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                words.push(rest[..len].to_owned());
                len
            }
            _ => {
                let len = if rest.starts_with("::") { 2 } else { first.len_utf8() };
                if !first.is_whitespace() {
                    words.push(rest[..len].to_owned());
                }
                len
            }
        };
        rest = &rest[len..];
    }
    words
}

/// How long the text in quotation marks is with which a source goes on.
fn quoted(source: &str) -> usize {
    let mut escaped = false;
    let end = source.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(source.len(), |(at, _)| at + 1)
}

/// The words without the items of `#[cfg(test)]`; tells each module among them that is a file.
fn without_tests(words: Vec<String>, mut file_of_tests: impl FnMut(String)) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut number = 0;
    while number < words.len() {
        if !words[number..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            kept.push(words[number].clone());
            number += 1;
            continue;
        }
        number += MARK.len();
        let item = number;
        let mut depth = 0_i32;
        while let Some(word) = words.get(number) {
            number += 1;
            match word.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (word == ";" || word == "}") {
                break;
            }
        }
        if let [.., kind, name, end] = &words[item..number]
            && kind == "mod"
            && end == ";"
        {
            file_of_tests(name.clone());
        }
    }
    kept
}
