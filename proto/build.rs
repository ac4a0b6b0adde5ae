//! Compiles the `.proto` files in pure Rust: no protoc on the machine.

use std::error::Error;

const FILES: [&str; 7] = ["common", "slot", "session", "object", "crypto", "key", "token"];

fn main() -> Result<(), Box<dyn Error>> {
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut files: Vec<String> = FILES.iter().map(|name| format!("craton/hsm/v1/{name}.proto")).collect();
    files.extend(["admin", "seal", "witness"].map(|name| format!("craton/hsm/v1/{name}.proto")));
    println!("cargo::rerun-if-changed=craton");
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        // Messages that may carry a PIN, a key value, a plaintext or what names an application print nothing: no Debug output may show one.
        .skip_debug([
            "craton.hsm.v1.InitTokenRequest",
            "craton.hsm.v1.InitPinRequest",
            "craton.hsm.v1.SetPinRequest",
            "craton.hsm.v1.LoginRequest",
            "craton.hsm.v1.AdminInitTokenRequest",
            "craton.hsm.v1.AdminChangePinRequest",
            "craton.hsm.v1.AdminResetPinRequest",
            "craton.hsm.v1.ListKeysRequest",
            "craton.hsm.v1.BackupRequest",
            "craton.hsm.v1.RotateKeyRequest",
            "craton.hsm.v1.UnsealRequest",
            "craton.hsm.v1.BackupShares",
            "craton.hsm.v1.Attribute",
            "craton.hsm.v1.Pbkdf2",
            "craton.hsm.v1.BackupRecipient",
            "craton.hsm.v1.AttachRequest",
            "craton.hsm.v1.AttachReply",
            "craton.hsm.v1.OutcomeRequest",
            "craton.hsm.v1.OutcomeReply",
            "craton.hsm.v1.OneShotRequest",
            "craton.hsm.v1.OutputReply",
            "craton.hsm.v1.UpdateRequest",
            "craton.hsm.v1.MessageRequest",
            "craton.hsm.v1.MessageReply",
            "craton.hsm.v1.SavedStateReply",
            "craton.hsm.v1.RestoreStateRequest",
            "craton.hsm.v1.RandomReply",
            "craton.hsm.v1.SeedRandomRequest",
            "craton.hsm.v1.CbcData",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
