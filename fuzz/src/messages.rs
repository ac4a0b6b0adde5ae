//! What the daemon's messages look like, read from the `.proto` files: a new operation or parameter is fuzzed on the day it is added.
//!
//! Only what those files use of the language is understood; the request's envelope must come out whole, or the reader panics.

use std::collections::BTreeMap;
use std::path::Path;

/// The type of a field.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Number,
    Bool,
    Bytes,
    Text,
    /// The values of the enumeration.
    Enum(Vec<u64>),
    Message(String),
}

/// One field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) tag: u32,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
    pub(crate) optional: bool,
    /// The name of the `oneof` that it stands in.
    pub(crate) one_of: Option<String>,
}

/// Every message by its name.
pub(crate) struct Messages {
    by_name: BTreeMap<String, Vec<Field>>,
}

impl Messages {
    /// Reads the files of the token's service.
    pub(crate) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/craton/hsm/v1");
        let mut reader = Reader::default();
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .expect("the folder of the .proto files")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|end| end == "proto") && !path.ends_with("admin.proto"))
            .collect();
        files.sort();
        for file in files {
            reader.file(&std::fs::read_to_string(&file).expect("a .proto file"));
        }
        let messages = reader.finish();
        let operations = messages.fields("Request").iter().filter(|field| field.one_of.is_some()).count();
        assert!(operations > 30, "the request has only {operations} operations: is it read rightly?");
        messages
    }

    /// The fields of a message.
    pub(crate) fn fields(&self, message: &str) -> &[Field] {
        self.by_name.get(message).unwrap_or_else(|| panic!("there is no message {message}"))
    }
}

#[derive(Default)]
struct Reader {
    messages: BTreeMap<String, Vec<Field>>,
    enums: BTreeMap<String, Vec<u64>>,
}

impl Reader {
    fn file(&mut self, source: &str) {
        let bare: String =
            source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
        let spaced =
            ["{", "}", "=", ";", "[", "]"].iter().fold(bare, |text, mark| text.replace(mark, &format!(" {mark} ")));
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        while at < words.len() {
            match words[at] {
                "message" => at = self.message(&words, at + 1),
                "enum" => at = self.enumeration(&words, at + 1),
                "service" => at = skip_block(&words, at),
                _ => at = skip_statement(&words, at),
            }
        }
    }

    fn message(&mut self, words: &[&str], name: usize) -> usize {
        let (mut at, mut fields, mut one_of) = (name + 2, Vec::new(), None);
        loop {
            match words[at] {
                "}" if one_of.is_some() => {
                    one_of = None;
                    at += 1;
                }
                "}" => break,
                "oneof" => {
                    one_of = Some(words[at + 1].to_owned());
                    at += 3;
                }
                "message" => at = self.message(words, at + 1),
                "enum" => at = self.enumeration(words, at + 1),
                "reserved" | "option" => at = skip_statement(words, at),
                word => {
                    let (repeated, optional) = (word == "repeated", word == "optional");
                    let first = at + usize::from(repeated || optional);
                    let tag = words[first + 3].parse().expect("a field's number");
                    let (name, kind) = (words[first + 1].to_owned(), kind(words[first]));
                    fields.push(Field { name, tag, kind, repeated, optional, one_of: one_of.clone() });
                    at = skip_statement(words, at);
                }
            }
        }
        self.messages.insert(words[name].to_owned(), fields);
        at + 1
    }

    fn enumeration(&mut self, words: &[&str], name: usize) -> usize {
        let (mut at, mut values) = (name + 2, Vec::new());
        while words[at] != "}" {
            if words[at + 1] == "=" {
                values.push(words[at + 2].parse().expect("a value"));
            }
            at = skip_statement(words, at);
        }
        self.enums.insert(words[name].to_owned(), values);
        at + 1
    }

    fn finish(mut self) -> Messages {
        for fields in self.messages.values_mut() {
            for field in fields {
                if let Kind::Message(name) = &field.kind
                    && let Some(values) = self.enums.get(name)
                {
                    field.kind = Kind::Enum(values.clone());
                }
            }
        }
        Messages { by_name: self.messages }
    }
}

fn kind(word: &str) -> Kind {
    match word {
        "uint64" | "uint32" | "int64" | "int32" => Kind::Number,
        "bool" => Kind::Bool,
        "bytes" => Kind::Bytes,
        "string" => Kind::Text,
        name => Kind::Message(name.rsplit('.').next().unwrap_or(name).to_owned()),
    }
}

fn skip_statement(words: &[&str], from: usize) -> usize {
    words[from..].iter().position(|word| *word == ";").map_or(words.len(), |end| from + end + 1)
}

fn skip_block(words: &[&str], from: usize) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(from) {
        match *word {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            _ => {}
        }
    }
    words.len()
}
