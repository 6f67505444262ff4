//! Reading settings: YAML, then overrides from the environment, then the checks.
//!
//! A variable's name is `WEFT_`, then the path of the field with `_` between its parts and
//! between the words of a part: `limits.maxMessageBytes` is
//! `WEFT_LIMITS_MAX_MESSAGE_BYTES`. Lists of text are separated by commas; lists of
//! mappings have no variable. Other variables that begin with `WEFT_` are left alone:
//! Kubernetes itself makes some for a Service whose name begins with `weft`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use crate::validate::{Problem, Problems};
use crate::{OrdererSettings, PeerSettings};

const PREFIX: &str = "WEFT_";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The YAML is malformed, has an unknown key or a value of the wrong type.
    #[error("failed to read the settings: {path}: {source}")]
    Yaml {
        /// The field at fault, such as `limits.maxConnections`; `.` is the whole file.
        path: String,
        /// The reader's error; it names the line.
        #[source]
        source: serde_yaml::Error,
    },
    /// An environment variable has a value of the wrong type.
    #[error("failed to apply {variable} to {path}: {source}")]
    Override {
        /// The environment variable.
        variable: String,
        /// The field it overrides, such as `limits.maxConnections`.
        path: String,
        /// The reader's error.
        #[source]
        source: serde_yaml::Error,
    },
    /// Fields have values that cannot be used.
    #[error("invalid settings: {}", Problems(.0))]
    Invalid(Vec<Problem>),
}

impl OrdererSettings {
    /// Reads settings from YAML, applies overrides from the environment and validates.
    ///
    /// # Errors
    /// [`SettingsError`] names the field or variable at fault.
    pub fn load(
        yaml: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let settings: Self = read(yaml, env)?;
        settings.validate()?;
        Ok(settings)
    }
}

impl PeerSettings {
    /// Reads settings from YAML, applies overrides from the environment and validates.
    ///
    /// # Errors
    /// [`SettingsError`] names the field or variable at fault.
    pub fn load(
        yaml: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let settings: Self = read(yaml, env)?;
        settings.validate()?;
        Ok(settings)
    }
}

/// The overrides of `T`: variable name and the field's path, in the order of the fields.
pub fn override_names<T: Default + Serialize>() -> Vec<(String, String)> {
    overrides::<T>().into_iter().map(|field| (field.variable(), field.path.join("."))).collect()
}

/// Names of variables in `env` that begin with `WEFT_` and override nothing in `T`, for a
/// warning.
pub fn ignored_overrides<T: Default + Serialize>(
    env: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let known = overrides::<T>();
    env.map(|(name, _)| name)
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| !known.iter().any(|field| field.variable() == *name))
        .collect()
}

fn read<T: Default + Serialize + DeserializeOwned>(
    yaml: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let whole = |source| SettingsError::Yaml { path: ".".to_owned(), source };
    let mut document: Value = serde_yaml::from_str(yaml).map_err(whole)?;
    if document.is_null() {
        document = Value::Mapping(Mapping::new());
    } else {
        // Read from the text, not from `document`, for errors that name the line.
        let reader = serde_yaml::Deserializer::from_str(yaml);
        serde_path_to_error::deserialize::<_, T>(reader).map_err(|error| SettingsError::Yaml {
            path: error.path().to_string(),
            source: error.into_inner(),
        })?;
    }
    let fields = overrides::<T>();
    for (name, text) in env {
        let Some(field) = fields.iter().find(|field| field.variable() == name) else { continue };
        let failed = |source| SettingsError::Override {
            variable: name.clone(),
            path: field.path.join("."),
            source,
        };
        set(&mut document, &field.path, field.kind.value(&text).map_err(failed)?);
        T::deserialize(document.clone()).map_err(failed)?;
    }
    T::deserialize(document).map_err(whole)
}

/// A field that the environment can set.
struct Override {
    path: Vec<String>,
    kind: Kind,
}

/// How the text of a variable becomes a YAML value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Scalar,
    List,
}

impl Override {
    fn variable(&self) -> String {
        let words = self.path.iter().map(|part| part.chars().fold(String::from("_"), word));
        words.collect::<String>().replacen('_', PREFIX, 1)
    }
}

/// Appends a character of a camelCase name to its upper-case form.
fn word(mut name: String, c: char) -> String {
    if c.is_ascii_uppercase() {
        name.push('_');
    }
    name.push(c.to_ascii_uppercase());
    name
}

impl Kind {
    fn of(default: &Value) -> Self {
        match default {
            Value::String(_) => Self::Text,
            Value::Sequence(_) => Self::List,
            _ => Self::Scalar,
        }
    }

    fn value(self, text: &str) -> Result<Value, serde_yaml::Error> {
        match self {
            Self::Text => Ok(Value::String(text.to_owned())),
            Self::Scalar => serde_yaml::from_str(text),
            Self::List => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect::<Vec<_>>()
                .into()),
        }
    }
}

/// Every field of `T` that a variable can set, found from its defaults.
fn overrides<T: Default + Serialize>() -> Vec<Override> {
    let mut found = Vec::new();
    if let Ok(defaults) = serde_yaml::to_value(T::default()) {
        collect(&defaults, &mut Vec::new(), &mut found);
    }
    found
}

fn collect(value: &Value, path: &mut Vec<String>, found: &mut Vec<Override>) {
    let Value::Mapping(fields) = value else {
        found.push(Override { path: path.clone(), kind: Kind::of(value) });
        return;
    };
    for (key, value) in fields {
        // Lists of mappings have no form as one variable.
        let Some(key) = key.as_str().filter(|key| *key != "knownPeers") else { continue };
        path.push(key.to_owned());
        collect(value, path, found);
        path.pop();
    }
}

fn set(document: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *document = value;
        return;
    };
    if !document.is_mapping() {
        *document = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(fields) = document {
        let child = fields.entry(Value::String(key.clone())).or_insert(Value::Null);
        set(child, rest, value);
    }
}
