//! Generates Rust from every file under `proto/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const ROOT: &str = "proto";
const DESCRIPTORS: &str = "descriptors.bin";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed={ROOT}");
    println!("cargo::rerun-if-env-changed=PROTOC");
    require_protoc()?;

    let mut files = Vec::new();
    collect(Path::new(ROOT), &mut files).map_err(|e| failed("list", ROOT, &e))?;
    files.sort();

    let out = env::var("OUT_DIR").map_err(|e| format!("failed to read OUT_DIR: {e}"))?;
    let out = Path::new(&out);
    let mut config = prost_build::Config::new();
    // By its name a message is found among the descriptors, which say what it is made of.
    config.enable_type_names();

    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join(DESCRIPTORS))
        // Every message of every service is bounded before it is decoded.
        .codec_path("crate::codec::BoundedCodec")
        // Decoding from `Bytes` shares the buffer instead of copying each field.
        .bytes(".")
        // Sorted maps: equal values encode to equal bytes.
        .btree_map(".")
        // Clients stay generic over the channel, so no transport is compiled in here.
        .build_transport(false)
        .compile_with_config(config, &files, &[PathBuf::from(ROOT)])
        .map_err(|e| failed("generate code from", ROOT, &e))?;

    derive_eq_and_hash(out)
        .map_err(|e| failed("complete the derives in", &out.display().to_string(), &e))
}

fn failed(step: &str, place: &str, error: &io::Error) -> String {
    format!("failed to {step} {place}: {error}")
}

fn require_protoc() -> Result<(), String> {
    let protoc = env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    match Command::new(&protoc).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(e) => Err(format!(
            "failed to run {}: {e}; install Debian's `protobuf-compiler`, \
             or set PROTOC to the compiler's path",
            protoc.display()
        )),
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Prost derives `Eq` and `Hash` only for messages without lists or maps, and offers no switch.
/// Here every message can have both: there are no floats, and maps are sorted.
fn derive_eq_and_hash(out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let code = fs::read_to_string(&file)?;
        let code = ["Message", "Oneof"].iter().fold(code, |code, kind| {
            code.replace(
                &format!("#[derive(Clone, PartialEq, ::prost::{kind})]"),
                &format!("#[derive(Clone, PartialEq, Eq, Hash, ::prost::{kind})]"),
            )
        });
        fs::write(&file, code)?;
    }
    Ok(())
}
