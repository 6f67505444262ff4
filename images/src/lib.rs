//! Container images made from scratch: a program, the shared libraries that it links, and nothing
//! that could run a command. The archives are written here, byte by byte the same for the same
//! programs, so no container engine takes part; [`check`] reads an archive back and says what is
//! wrong with it.
//!
//! What an image holds is in [`spec`]; [`build`] puts it together.

pub mod archive;
pub mod build;
pub mod check;
pub mod debian;
pub mod elf;
pub mod layer;
pub mod libraries;
pub mod sbom;
pub mod spec;

/// The SHA-256 of `bytes`, as OCI descriptors write it (`sha256:…`).
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}
