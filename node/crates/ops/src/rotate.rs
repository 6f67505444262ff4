//! A log file that does not grow without end.
//!
//! The process itself begins a new file when the present one is full, so that nobody has to look
//! after a node that runs alone. Its standard error goes to the same file from then on: a panic,
//! or what a library prints before it ends the process, stands where the lines before it do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use weft_settings::LogFile;

/// A log file and those before it. Each write is one line, and is in one file.
#[derive(Debug)]
pub struct RotatingFile(Mutex<Open>);

#[derive(Debug)]
struct Open {
    file: File,
    settings: LogFile,
    /// Whether standard error follows.
    with_stderr: bool,
}

impl RotatingFile {
    /// Opens the log for appending; standard error goes there, too.
    ///
    /// # Errors
    /// The system's.
    pub fn open(settings: &LogFile) -> io::Result<Self> {
        let log = Self::open_alone(settings)?;
        {
            let mut open = log.0.lock();
            rustix::stdio::dup2_stderr(&open.file)?;
            open.with_stderr = true;
        }
        Ok(log)
    }

    /// The same without standard error.
    fn open_alone(settings: &LogFile) -> io::Result<Self> {
        if let Some(parent) = settings.path.parent() {
            crate::private::make_folder(parent)?;
        }
        let file = append(&settings.path)?;
        Ok(Self(Mutex::new(Open { file, settings: settings.clone(), with_stderr: false })))
    }
}

impl Write for &RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.0.lock();
        open.make_room(line.len() as u64);
        open.file.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Open {
    /// The size is asked for each time: others write to the file through standard error.
    fn make_room(&mut self, bytes: u64) {
        let Ok(size) = self.file.metadata().map(|found| found.len()) else { return };
        if size == 0 || size.saturating_add(bytes) <= self.settings.max_bytes {
            return;
        }
        // Where no new file can be begun, the present one is emptied: a log that is lost is
        // better than a disk that is full.
        if self.rotate().is_err() {
            let _ = self.file.set_len(0);
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        let kept = self.settings.max_files.saturating_sub(1);
        if kept == 0 {
            return self.file.set_len(0);
        }
        for index in (1..kept).rev() {
            match fs::rename(numbered(path, index), numbered(path, index + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(path, numbered(path, 1))?;
        self.file = append(path)?;
        if self.with_stderr {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// `node.log.1` is the newest of the full ones.
fn numbered(path: &Path, index: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn log(folder: &Path, max_bytes: u64, max_files: usize) -> (RotatingFile, PathBuf) {
        let path = folder.join("logs/node.log");
        let settings = LogFile { path: path.clone(), max_bytes, max_files };
        (RotatingFile::open_alone(&settings).unwrap(), path)
    }

    #[test]
    fn the_newest_lines_are_kept_whole_in_a_bounded_number_of_files() {
        let folder = tempfile::tempdir().unwrap();
        for run in 0..2 {
            let (log, _) = log(folder.path(), 100, 3);
            for number in 0..40 {
                (&log).write_all(format!("run {run}, line {number:03}\n").as_bytes()).unwrap();
            }
        }
        let (_, path) = log(folder.path(), 100, 3);
        let files = [numbered(&path, 2), numbered(&path, 1), path.clone()];
        let all: Vec<String> = files.iter().flat_map(|file| lines(file)).collect();
        let first = 40 - all.len();
        assert!(all.len() > 10, "{all:?}");
        let expected: Vec<_> =
            (first..40).map(|number| format!("run 1, line {number:03}")).collect();
        assert_eq!(all, expected);
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 100));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
    }

    #[test]
    fn a_log_that_cannot_be_followed_by_another_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (log, path) = log(folder.path(), 100, 2);
        // The place of the full file is taken.
        fs::create_dir_all(numbered(&path, 1).join("taken")).unwrap();
        for number in 0..40 {
            (&log).write_all(format!("line {number:03}\n").as_bytes()).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= 100);
        assert_eq!(lines(&path).last().unwrap(), "line 039");
    }
}
