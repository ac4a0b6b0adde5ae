//! The messages: every operation of the envelope is an rpc of the service too, so that no carrier can do less than the other.

use std::collections::BTreeSet;
use std::path::Path;

use super::read;

/// The names of the fields of `message Request { oneof op { ... } }`, as rpc names.
fn operations(source: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once("message Request {").expect("the envelope");
    let (body, _) = rest.split_once("\n  }").expect("the end of the oneof");
    let fields = body.lines().filter_map(|line| line.split_once('=')?.0.split_whitespace().nth(1));
    fields.map(camel_case).collect()
}

fn camel_case(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(word).collect()
}

/// The rpcs of `service Token`.
fn rpcs(source: &str) -> BTreeSet<String> {
    let (_, service) = source.split_once("service Token {").expect("the service");
    let names = service.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_operation_travels_by_both_carriers() {
    let source = read(Path::new("proto/craton/hsm/v1/token.proto"));
    let mut rpcs = rpcs(&source);
    for envelope in ["Exchange", "SealKey", "Sealed"] {
        assert!(rpcs.remove(envelope), "the envelope's own rpc {envelope}");
    }
    let operations = operations(&source);
    assert!(operations.len() > 30, "{operations:?}");
    assert_eq!(operations, rpcs);
}

#[test]
fn no_pin_travels_as_a_string() {
    // A protobuf string is copied, validated and printed; a PIN is none of a string's business.
    for file in super::files().into_iter().filter(|file| file.extension().is_some_and(|e| e == "proto")) {
        let source: String = read(&file).lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        for field in source.split([';', '{', '}']) {
            let words: Vec<&str> = field.split_whitespace().collect();
            let [.., kind, name, "=", _] = words.as_slice() else { continue };
            let names_a_pin = *name == "pin" || name.ends_with("_pin");
            assert!(!names_a_pin || *kind != "string", "{}: {}", file.display(), field.trim());
        }
    }
}
