//! Reference pages for people, written from the types themselves: `docs/manifest.md` from the
//! kinds, `docs/node-settings.md` from the settings. A page that is kept by hand goes stale;
//! these are checked by `make verify`.

mod manifest;
mod settings;
mod table;

use std::fmt;

pub use manifest::manifest;
pub use settings::node_settings;

/// Why a page cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A type's schema or defaults cannot be written down.
    #[error("failed to describe {what}: {source}")]
    Describe {
        /// The kind or the settings type.
        what: String,
        /// The writer's error.
        #[source]
        source: serde_json::Error,
    },
    /// A setting without a description in its schema, or the other way round.
    #[error("failed to describe {what}: no description of {path}")]
    Undescribed {
        /// The kind or the settings type.
        what: String,
        /// The dotted path of the field.
        path: String,
    },
}

/// File name and text of every page.
///
/// # Errors
/// [`ReferenceError`] names the type and, if it is one, the field.
pub fn pages() -> Result<Vec<(String, String)>, ReferenceError> {
    Ok(vec![
        ("manifest.md".to_owned(), manifest()?),
        ("node-settings.md".to_owned(), node_settings()?),
    ])
}

/// First line of a page that no hand should change.
fn banner(command: impl fmt::Display) -> String {
    format!(
        "<!-- Written by `{command}` from the Rust types; change those and run `make fix`. -->\n"
    )
}

#[cfg(test)]
mod tests;
