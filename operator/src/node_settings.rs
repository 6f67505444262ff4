//! The settings file of a node with what a manifest overrides.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_settings::SettingsError;

/// Settings that a node would refuse.
#[derive(Debug, thiserror::Error)]
pub enum NodeSettingsError {
    /// A path of `node.config` leads nowhere.
    #[error("the node has no setting {path:?} (spec: node.config)")]
    Unknown {
        /// The dotted path.
        path: String,
    },
    /// A value does not fit.
    #[error(transparent)]
    Settings(SettingsError),
    /// The settings cannot be written as YAML.
    #[error("failed to write the settings")]
    Write(#[source] serde_yaml::Error),
}

/// The settings with overrides by dotted path, as YAML. They go through the very reader that
/// the node has, so that a bad one is told here and not by a node that does not start.
///
/// # Errors
/// [`NodeSettingsError`] names the override at fault.
pub fn with_overrides<T: Default + Serialize>(
    settings: &T,
    overrides: &BTreeMap<String, String>,
    load: impl FnOnce(&str, Vec<(String, String)>) -> Result<T, SettingsError>,
) -> Result<String, NodeSettingsError> {
    let names = weft_settings::override_names::<T>();
    let variables = overrides
        .iter()
        .map(|(path, value)| {
            let (variable, _) = names
                .iter()
                .find(|(_, known)| known == path)
                .ok_or_else(|| NodeSettingsError::Unknown { path: path.clone() })?;
            Ok((variable.clone(), value.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let yaml = serde_yaml::to_string(settings).map_err(NodeSettingsError::Write)?;
    let settings = load(&yaml, variables).map_err(NodeSettingsError::Settings)?;
    serde_yaml::to_string(&settings).map_err(NodeSettingsError::Write)
}
