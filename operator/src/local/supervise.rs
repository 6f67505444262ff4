//! Looking after a local network for as long as `weft up` stays in the foreground, and
//! stopping it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::LocalError;
use super::layout::Layout;
use super::lock::Lock;
use super::process::ProcessId;
use super::progress::{Progress, Silent};
use super::runner::{Runner, UpOptions, absolute, stop_all};
use super::state::State;

/// How often the processes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(3600);
/// Longest wait before a program that keeps ending is started again.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Starts what ends and renews what expires, until `weft down` takes the network away or
/// this future is dropped.
///
/// Each look works on what the folder says now, so that another `weft up` may change the
/// network at any time; while one is at work, this one waits.
pub async fn supervise(folder: &Path, weft: &Path, progress: Arc<dyn Progress>) {
    let mut renewed = Instant::now();
    let mut backoff = LOOK;
    loop {
        sleep(backoff.max(LOOK)).await;
        match look(folder, weft, &progress, &mut renewed).await {
            Ok(Outcome::Fine) => backoff = LOOK,
            Ok(Outcome::Mended) => backoff = (backoff * 2).min(MAX_BACKOFF),
            Ok(Outcome::Gone) => return,
            Err(LocalError::Locked { .. }) => {}
            Err(error) => {
                progress.note(&crate::cli::report(&error));
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

enum Outcome {
    Fine,
    Mended,
    Gone,
}

async fn look(
    folder: &Path,
    weft: &Path,
    progress: &Arc<dyn Progress>,
    renewed: &mut Instant,
) -> Result<Outcome, LocalError> {
    let layout = Layout::new(absolute(folder)?);
    let Some(state) = State::load(&layout)? else { return Ok(Outcome::Gone) };
    if state.supervisor != ProcessId::current() {
        return Ok(Outcome::Gone);
    }
    let ended: Vec<&str> = state
        .processes
        .iter()
        .filter(|(_, process)| !process.is_running())
        .map(|(name, _)| name.as_str())
        .collect();
    let renewal_due = renewed.elapsed() >= RENEWAL;
    if ended.is_empty() && !renewal_due {
        return Ok(Outcome::Fine);
    }
    if !ended.is_empty() {
        progress.note(&format!("{} ended and is started again", ended.join(", ")));
    }
    let options = UpOptions {
        manifest: layout.manifest(),
        manifest_folder: Some(state.manifest_folder),
        folder: layout.root().to_owned(),
        weft: weft.to_owned(),
    };
    Runner::prepare(&options, Arc::new(Silent))?.bring_up().await?;
    *renewed = Instant::now();
    Ok(Outcome::Mended)
}

/// Stops every process of the network in `folder`; with `delete`, its folder goes as well.
/// Returns how many were stopped.
///
/// # Errors
/// [`LocalError::NoNetwork`], or naming the process that does not end.
pub async fn down(folder: &Path, delete: bool) -> Result<usize, LocalError> {
    let layout = Layout::new(absolute(folder)?);
    let no_network = || LocalError::NoNetwork { folder: layout.root().to_owned() };
    if !layout.state().exists() {
        return Err(no_network());
    }
    let lock = Lock::take(&layout)?;
    let mut state = State::load(&layout)?.ok_or_else(no_network)?;
    let stopped = stop_all(&layout, &mut state).await?;
    drop(lock);
    if delete {
        let root: PathBuf = layout.root().to_owned();
        std::fs::remove_dir_all(&root).map_err(|source| {
            LocalError::File(super::files::FileError { action: "delete", path: root, source })
        })?;
    }
    Ok(stopped)
}
