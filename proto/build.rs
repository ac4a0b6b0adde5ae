//! Compiles the `.proto` files in pure Rust: no protoc on the machine.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 10] = ["common", "slot", "session", "object", "crypto", "key", "token", "admin", "seal", "witness"];

/// The number of `TYPE_BYTES` in descriptor.proto.
const BYTES: i32 = 12;

/// The message that prints something beside its name: `src/redacted.rs` says what.
const TELLS_ITS_TYPE: &str = "Attribute";

fn main() -> Result<(), Box<dyn Error>> {
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let files = FILES.map(|name| format!("craton/hsm/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=craton");
    let descriptors = protox::compile(files, ["."])?;
    // Bytes may be a PIN, a key value, a plaintext or what names an application: what has a field of them prints its name and no more.
    let (mut silent, mut named) = (Vec::new(), Vec::new());
    for message in descriptors.file.iter().flat_map(|file| &file.message_type) {
        if !message.field.iter().any(|field| field.r#type == Some(BYTES)) {
            continue;
        }
        silent.push(format!("craton.hsm.v1.{}", message.name()));
        if message.name() != TELLS_ITS_TYPE {
            named.push(message.name().to_owned());
        }
        // A field that may be absent is a choice of its own, under a name that begins so.
        let choices = message.oneof_decl.iter().filter(|choice| !choice.name().starts_with('_'));
        named.extend(choices.map(|choice| format!("{}::{}", snake_case(message.name()), camel_case(choice.name()))));
    }
    let redacted = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no folder for what is made")?).join("redacted.rs");
    std::fs::write(redacted, format!("redacted! {{ {} }}", named.join(" ")))?;
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).skip_debug(silent).compile_fds(descriptors)?;
    Ok(())
}

/// A message's name as that of its module.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The name of a choice as that of its type.
fn camel_case(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(word).collect()
}
