//! Setting `tracing` up: lines to standard error or to a file that is rotated, with a filter that
//! can be exchanged.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter};
use weft_settings::{LogFormat, Logging};

use crate::logspec::{LogSpecError, to_directives};
use crate::rotate::RotatingFile;

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The specification cannot be read.
    #[error(transparent)]
    Spec(LogSpecError),
    /// The filter refuses the translated directives.
    #[error("failed to use the logging specification {spec:?}: {source}")]
    Filter {
        /// The specification.
        spec: String,
        /// The filter's error.
        #[source]
        source: filter::ParseError,
    },
    /// The subscriber is gone.
    #[error("failed to change the logging specification: {0}")]
    Reload(#[source] reload::Error),
    /// The log file cannot be used.
    #[error("failed to open the log {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The process has a subscriber already.
    #[error("failed to set up logging: {0}")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// The log specification in use. Clones share it.
#[derive(Clone)]
pub struct LogHandle {
    spec: Arc<Mutex<String>>,
    apply: Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl LogHandle {
    /// The specification as it was last given.
    pub fn spec(&self) -> String {
        self.spec.lock().clone()
    }

    /// Takes over another specification, in either form (see [`crate::logspec`]).
    ///
    /// # Errors
    /// [`LoggingError`]; the one in use stays.
    pub fn set(&self, spec: &str) -> Result<(), LoggingError> {
        let filter = filter_of(spec)?;
        // Held while applying, so that what is told is what is applied.
        let mut current = self.spec.lock();
        (self.apply)(filter).map_err(LoggingError::Reload)?;
        spec.clone_into(&mut current);
        Ok(())
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle").field("spec", &self.spec()).finish()
    }
}

/// Makes a layer that writes to `writer`, and the handle of its filter. [`init`] is what a
/// process uses; this serves tests and processes with a subscriber of their own.
///
/// # Errors
/// When the specification cannot be used.
pub fn layer<W>(
    logging: &Logging,
    writer: W,
    colours: bool,
) -> Result<(impl Layer<Registry> + Send + Sync, LogHandle), LoggingError>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter_of(&logging.spec)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match logging.format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let handle = LogHandle {
        spec: Arc::new(Mutex::new(logging.spec.clone())),
        apply: Arc::new(move |filter| handle.reload(filter)),
    };
    Ok((lines.with_filter(filter), handle))
}

/// Sets the process's logging up: to the file of the settings, else to standard error, with
/// colours on a terminal.
///
/// # Errors
/// When the specification or the file cannot be used, or the process has logging already.
pub fn init(logging: &Logging) -> Result<LogHandle, LoggingError> {
    let path = &logging.file.path;
    if !path.as_os_str().is_empty() {
        let file = RotatingFile::open(&logging.file)
            .map_err(|source| LoggingError::File { path: path.clone(), source })?;
        let (layer, handle) = layer(logging, Arc::new(file), false)?;
        Registry::default().with(layer).try_init().map_err(LoggingError::Installed)?;
        return Ok(handle);
    }
    let colours = std::io::stderr().is_terminal();
    let (layer, handle) = layer(logging, std::io::stderr, colours)?;
    Registry::default().with(layer).try_init().map_err(LoggingError::Installed)?;
    Ok(handle)
}

fn filter_of(spec: &str) -> Result<EnvFilter, LoggingError> {
    let directives = to_directives(spec).map_err(LoggingError::Spec)?;
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| LoggingError::Filter { spec: spec.to_owned(), source })
}
