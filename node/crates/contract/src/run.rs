//! Running a contract as the environment says.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::{Contract, RegisterOptions, ServeOptions, register, serve};

/// Why a contract could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A variable is missing.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// Neither way of running is asked for.
    #[error(
        "set CHAINCODE_ID and CHAINCODE_SERVER_ADDRESS to serve peers, or CORE_CHAINCODE_ID_NAME \
         and CORE_PEER_ADDRESS to register with one"
    )]
    Neither,
    /// A variable is wrong.
    #[error("the environment variable {name} is wrong: {reason}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read.
    #[error("failed to read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The address cannot be dialled.
    #[error("failed to use the peer's address")]
    Address(#[source] tonic::transport::Error),
    /// The TLS files cannot be used.
    #[error("failed to set up TLS")]
    Tls(#[source] tonic::transport::Error),
    /// The server ended.
    #[error("failed to go on serving")]
    Serve(#[source] tonic::transport::Error),
    /// Signals cannot be received.
    #[error("failed to wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs a contract until SIGTERM or SIGINT: as a service for peers to dial when
/// `CHAINCODE_SERVER_ADDRESS` is set ([`ServeOptions::from_env`]), else by dialling the peer
/// ([`RegisterOptions::from_env`]).
///
/// # Errors
/// Fails where the environment is incomplete or cannot be used.
pub async fn run(contract: impl Contract) -> Result<(), RunError> {
    let stopped = stop_signal()?;
    if env("CHAINCODE_SERVER_ADDRESS").is_some() {
        return serve(contract, ServeOptions::from_env()?, |_| {}, stopped).await;
    }
    if env("CORE_PEER_ADDRESS").is_none() {
        return Err(RunError::Neither);
    }
    register(contract, RegisterOptions::from_env()?, stopped).await
}

fn stop_signal() -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A variable that is set and not empty.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that is true or false, in the forms that Go's `strconv.ParseBool` knows.
pub(crate) fn flag(name: &'static str) -> Result<Option<bool>, RunError> {
    match env(name).as_deref() {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(RunError::Variable { name, reason: format!("{other:?} is no bool") }),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|source| RunError::File { path: path.to_owned(), source })
}
