//! Child processes that may outlive the `weft` that started them.
//!
//! Each runs in a process group of its own, so that Ctrl-C reaches `weft` alone, which then
//! stops the nodes in order. A process is known by its id *and* its start time: an id that
//! the system has given to another program in the meantime is never signalled.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::files::{self, FileError};

/// How often an ending process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A program that could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log cannot be opened.
    #[error("failed to open the log of {name}")]
    Log {
        /// Node or chaincode.
        name: String,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The program cannot be run.
    #[error("failed to start {name}: {}", program.display())]
    Start {
        /// Node or chaincode.
        name: String,
        /// What was to be run.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The program ended at once.
    #[error("{name} ended as soon as it was started; its log is {}", log.display())]
    Ended {
        /// Node or chaincode.
        name: String,
        /// Where it wrote why.
        log: PathBuf,
    },
    /// The process does not end, not even when killed.
    #[error("failed to stop {name} (process {pid})")]
    Stop {
        /// Node or chaincode.
        name: String,
        /// Its id.
        pid: u32,
    },
}

/// A process, told apart from a later one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// The system's id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), `/proc/PID/stat`, field 22).
    pub started: u64,
}

impl ProcessId {
    /// The process of that id, if there is one that has not ended.
    pub fn of(pid: u32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold spaces and parentheses itself.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(ProcessId { pid, started })
    }

    /// This process.
    pub fn current() -> Option<ProcessId> {
        ProcessId::of(std::process::id())
    }

    /// Whether this very process is still there.
    pub fn is_running(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }

    /// What the process has used so far, or `None` when it has ended.
    pub fn usage(self) -> Option<Usage> {
        if !self.is_running() {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let cpu = ticks(14)? + ticks(15)?;
        let pages = ticks(24)?;
        let rate = rustix::param::clock_ticks_per_second().max(1);
        Some(Usage {
            cpu: Duration::from_millis(cpu * 1000 / rate),
            resident_bytes: pages * rustix::param::page_size() as u64,
        })
    }

    fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && self.is_running()
        {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the process to end, and kills it when it has not after `patience`.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be signalled or does not end.
    pub async fn stop(self, name: &str, patience: Duration) -> Result<(), ProcessError> {
        self.signal(Signal::TERM);
        if self.ends_within(patience).await {
            return Ok(());
        }
        self.signal(Signal::KILL);
        if self.ends_within(Duration::from_secs(5)).await {
            return Ok(());
        }
        Err(ProcessError::Stop { name: name.to_owned(), pid: self.pid })
    }

    async fn ends_within(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL).await;
        }
        true
    }
}

/// What a process has used (proc(5), `/proc/PID/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Node or chaincode, for messages.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment beside the inherited one.
    pub env: Vec<(String, String)>,
    /// Working folder.
    pub folder: PathBuf,
    /// Where standard output and error go, appended.
    pub log: PathBuf,
}

impl Program {
    /// Starts the program; it goes on when this process ends.
    ///
    /// The child is reaped by a task of the current runtime, so that an ended node is not
    /// taken for a running one while this process lives.
    ///
    /// # Errors
    /// [`ProcessError`] when the program or its log cannot be opened.
    pub fn spawn(&self) -> Result<ProcessId, ProcessError> {
        let log_error = |source| ProcessError::Log { name: self.name.clone(), source };
        let output = files::open_log(&self.log).map_err(log_error)?;
        let program = self.command.first().map(PathBuf::from).unwrap_or_default();
        let start_error = |source| ProcessError::Start {
            name: self.name.clone(),
            program: program.clone(),
            source,
        };
        let errors = output.try_clone().map_err(start_error)?;
        let mut command = Command::new(&program);
        command
            .args(self.command.iter().skip(1))
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let mut child = tokio::process::Command::from(command).spawn().map_err(start_error)?;
        let ended = || ProcessError::Ended { name: self.name.clone(), log: self.log.clone() };
        let id = child.id().and_then(ProcessId::of).ok_or_else(ended)?;
        tokio::spawn(async move { child.wait().await });
        Ok(id)
    }

    /// Length and time (seconds since 1970) of the program's file, which change when it is built
    /// anew; `None` for a program that is found on the path.
    pub fn build(&self) -> Option<(u64, u64)> {
        let file = fs::metadata(self.command.first()?).ok()?;
        let modified = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((file.len(), modified.as_secs()))
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

/// The last lines of a text file; empty when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path, script: &str) -> Program {
        Program {
            name: "sleeper".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            folder: folder.to_owned(),
            log: folder.join("logs/sleeper.log"),
        }
    }

    #[tokio::test]
    async fn a_process_is_started_known_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let program = sleeper(folder.path(), "echo $GREETING; exec sleep 60");
        let id = program.spawn().unwrap();
        while program.log_tail(1) != "hello" {
            assert!(id.is_running());
            sleep(POLL).await;
        }
        let other = ProcessId { started: id.started + 1, ..id };
        assert!(!other.is_running(), "an id that was given away is another process");
        id.stop("sleeper", Duration::from_secs(5)).await.unwrap();
        assert!(!id.is_running());
    }

    #[tokio::test]
    async fn a_process_that_ignores_the_request_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo ready; while true; do sleep 1; done";
        let program = sleeper(folder.path(), script);
        let id = program.spawn().unwrap();
        while program.log_tail(1) != "ready" {
            sleep(POLL).await;
        }
        id.stop("sleeper", Duration::from_millis(100)).await.unwrap();
        assert!(!id.is_running());
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = sleeper(folder.path(), "");
        program.command = vec!["/no/such/program".to_owned()];
        let error = program.spawn().unwrap_err().to_string();
        assert_eq!(error, "failed to start sleeper: /no/such/program");
    }
}
