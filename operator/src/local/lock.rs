//! One `weft` at a time changes a network.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

use super::error::LocalError;
use super::files;
use super::layout::Layout;

/// Held while a network is changed; the system lets go of it when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held open, never read")] File);

impl Lock {
    /// Takes the lock, or says that somebody else has it.
    ///
    /// # Errors
    /// [`LocalError::Locked`].
    pub fn take(layout: &Layout) -> Result<Lock, LocalError> {
        let file = files::open_log(&layout.lock())?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| LocalError::Locked { folder: layout.root().to_owned() })?;
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let first = Lock::take(&layout).unwrap();
        assert!(matches!(Lock::take(&layout), Err(LocalError::Locked { .. })));
        drop(first);
        Lock::take(&layout).unwrap();
    }
}
