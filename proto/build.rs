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
    let messages: Vec<_> = descriptors.file.iter().flat_map(|file| &file.message_type).collect();
    if let Some(message) = messages.iter().find(|message| !message.nested_type.is_empty()) {
        return Err(format!("{} has messages of its own, which nothing here looks into", message.name()).into());
    }
    // Bytes may be a PIN, a key value, a plaintext or what names an application: what has a field of them prints its name and no more.
    let (mut silent, mut named) = (Vec::new(), Vec::new());
    for message in &messages {
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
    // What an operator says in such fields, or in a message that has one, is sealed.
    let mut sealable = String::new();
    for method in
        descriptors.file.iter().flat_map(|file| &file.service).filter(|s| s.name() == "Admin").flat_map(|s| &s.method)
    {
        let Some(message) = messages.iter().find(|message| is_type(method.input_type(), message.name())) else {
            continue;
        };
        let mut secrets: Vec<&str> = Vec::new();
        for field in message.field.iter().filter(|field| field.name() != "sealed") {
            let tells = silent.iter().any(|silent| field.type_name().strip_prefix('.') == Some(silent));
            if field.r#type == Some(BYTES) || tells {
                let choice = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
                secrets.push(choice.map_or(field.name(), |choice| choice.name()));
            }
        }
        secrets.dedup();
        match (secrets.is_empty(), message.field.iter().any(|field| field.name() == "sealed")) {
            (true, false) => {}
            (false, true) => sealable += &format!("{} {:?} {};\n", message.name(), method.name(), secrets.join(" ")),
            _ => {
                return Err(
                    format!("{}: a secret without a field `sealed`, or the other way round", message.name()).into()
                );
            }
        }
    }
    let made = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no folder for what is made")?);
    std::fs::write(made.join("redacted.rs"), format!("redacted! {{ {} }}", named.join(" ")))?;
    std::fs::write(made.join("sealable.rs"), format!("sealable! {{\n{sealable}}}"))?;
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).skip_debug(silent).compile_fds(descriptors)?;
    Ok(())
}

/// Whether the whole name of a type is that of this message of ours.
fn is_type(whole: &str, message: &str) -> bool {
    whole.strip_prefix(".craton.hsm.v1.") == Some(message)
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
