//! What a run tells the person who watches it: one line a step, with its time.

use std::time::{Duration, Instant};

/// Where the lines go.
pub trait Progress: Send + Sync {
    /// A step has come to something.
    fn done(&self, subject: &str, outcome: &str, took: Duration);
    /// Something that the person should know, though the run goes on.
    fn note(&self, text: &str);
}

/// Lines on standard error, so that standard output is for answers.
#[derive(Debug, Default)]
pub struct Terminal;

impl Progress for Terminal {
    fn done(&self, subject: &str, outcome: &str, took: Duration) {
        eprintln!("  {subject:<18} {outcome} ({:.1} s)", took.as_secs_f64());
    }

    fn note(&self, text: &str) {
        eprintln!("  note: {text}");
    }
}

/// Nothing at all.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn done(&self, _subject: &str, _outcome: &str, _took: Duration) {}

    fn note(&self, _text: &str) {}
}

/// A step that is being timed.
pub struct Step<'a> {
    progress: &'a dyn Progress,
    subject: String,
    started: Instant,
}

impl<'a> Step<'a> {
    /// Starts the clock.
    pub fn begin(progress: &'a dyn Progress, subject: impl Into<String>) -> Step<'a> {
        Step { progress, subject: subject.into(), started: Instant::now() }
    }

    /// Tells what came of it.
    pub fn end(self, outcome: impl AsRef<str>) {
        self.progress.done(&self.subject, outcome.as_ref(), self.started.elapsed());
    }
}
