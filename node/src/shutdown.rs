//! When a node is asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Completes on SIGTERM (what Kubernetes sends) or SIGINT (Ctrl-C), and says which it was.
///
/// # Errors
/// The system's, when it gives no signals.
pub async fn requested() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
