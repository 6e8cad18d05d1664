//! Compiles the .proto files with protox: no system protoc is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "assent/ledger/v1/consent.proto",
        "assent/ledger/v1/decisions.proto",
        "assent/ledger/v1/governance.proto",
        "assent/ledger/v1/ledger.proto",
        "assent/ledger/v1/membership.proto",
        "assent/ledger/v1/exchange.proto",
        "assent/ledger/v1/pack.proto",
        "assent/ledger/v1/receipt.proto",
        "assent/ledger/v1/bundle.proto",
        "assent/v1/answer.proto",
        "assent/v1/ask.proto",
        "assent/v1/consent.proto",
        "assent/v1/decision.proto",
        "assent/v1/review.proto",
        "assent/v1/node.proto",
        "assent/v1/custodian.proto",
        "assent/v1/exchange.proto",
        "assent/v1/patient.proto",
        "assent/v1/audit.proto",
        "assent/v1/receipt.proto",
        "assent/v1/governance.proto",
    ];
    let descriptors = protox::compile(files.iter().map(|f| format!("proto/{f}")), ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("assent.bin"), descriptors.encode_to_vec())?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).compile_fds(descriptors)?;
    Ok(())
}
