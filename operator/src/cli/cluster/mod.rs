//! The commands on a network in a cluster. What they need of it they read from the API server,
//! or reach through it by a port-forward of their own; nothing is installed for them, and
//! nothing depends on them.
//!
//! - [`context`]: kubeconfig, namespace, client; [`objects`]: our kinds, and which are meant.
//! - [`pods`], [`forward`]: nodes' pods, and their ports brought to this machine.
//! - [`invoke`]: a peer and an identity for a call. Every other file is a command.

pub(super) mod channel;
mod context;
mod error;
mod forward;
pub(super) mod identity;
mod invoke;
pub(super) mod logs;
mod metrics;
mod objects;
mod pods;
pub(super) mod profile;
mod redact;
pub(super) mod report;
mod secret;
pub(super) mod status;
mod table;
pub(super) mod top;

pub use context::ClusterArgs;
pub(super) use context::{Context, patiently};
pub(super) use forward::Forward;
pub(super) use invoke::reach;

/// Field manager of what the commands write.
const MANAGER: &str = "weft-cli";

/// Writes a file that the person named; a bare name is one in this folder. One that holds no
/// secret may be `shared`: the person's umask decides.
fn save(path: &std::path::Path, contents: &[u8], shared: bool) -> Result<(), super::CommandError> {
    let path = std::path::absolute(path)?;
    let write = if shared { crate::local::files::write_shared } else { crate::local::files::write };
    Ok(write(&path, contents)?)
}

/// The present.
fn now() -> weft_types::Timestamp {
    weft_types::Timestamp::from_system_time(std::time::SystemTime::now())
}
