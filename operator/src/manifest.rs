//! Reading a file of several YAML documents into the kinds of [`crate::api`].
//!
//! Errors name the document (`Channel "supply"`, or its place in the file) and the field, and
//! say what stands there. Rules within one object that the CRDs carry as CEL stand in
//! [`crate::model`], because a local run has no API server to enforce them.

use serde::Deserialize;
use thiserror::Error;

use crate::api::{API_VERSION, Chaincode, Channel, GROUP, LedgerNetwork, Organization};

/// Why a manifest cannot be read.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The text is not YAML.
    #[error("document {index}: failed to read YAML: {source}")]
    Yaml {
        /// Place of the document in the file, from 1.
        index: usize,
        /// Where and why.
        #[source]
        source: serde_yaml::Error,
    },
    /// The document is not of this project's API.
    #[error(
        "document {index}: apiVersion is {found:?}, expected {API_VERSION:?} (kinds LedgerNetwork, Organization, Channel, Chaincode)"
    )]
    ApiVersion {
        /// Place of the document in the file, from 1.
        index: usize,
        /// What stands there.
        found: String,
    },
    /// The group has no such kind.
    #[error(
        "document {index}: unknown kind {found:?}, expected LedgerNetwork, Organization, Channel or Chaincode"
    )]
    Kind {
        /// Place of the document in the file, from 1.
        index: usize,
        /// What stands there.
        found: String,
    },
    /// A field is missing, unknown or of the wrong type.
    #[error("{kind} {name:?}: {source}")]
    Field {
        /// Kind of the object.
        kind: String,
        /// `metadata.name`.
        name: String,
        /// Which field and why.
        #[source]
        source: serde_yaml::Error,
    },
    /// Two objects of one kind carry the same name.
    #[error("{kind} {name:?} stands in the manifest twice")]
    Duplicate {
        /// Kind of the object.
        kind: &'static str,
        /// `metadata.name`.
        name: String,
    },
    /// There is nothing in the file.
    #[error("the manifest holds no document of {GROUP}")]
    Empty,
}

/// The objects of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Networks.
    pub networks: Vec<LedgerNetwork>,
    /// Organizations.
    pub organizations: Vec<Organization>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// Chaincodes.
    pub chaincodes: Vec<Chaincode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Name,
}

#[derive(Deserialize, Default)]
struct Name {
    #[serde(default)]
    name: String,
}

impl Manifest {
    /// Reads every document of `text`; empty documents are skipped.
    ///
    /// # Errors
    /// [`ManifestError`] names the document and the field.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut found = false;
        for (position, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let index = position + 1;
            let value = serde_yaml::Value::deserialize(document)
                .map_err(|source| ManifestError::Yaml { index, source })?;
            if value.is_null() {
                continue;
            }
            manifest.add(index, value)?;
            found = true;
        }
        if found { Ok(manifest) } else { Err(ManifestError::Empty) }
    }

    fn add(&mut self, index: usize, value: serde_yaml::Value) -> Result<(), ManifestError> {
        let meta = TypeMeta::deserialize(value.clone())
            .map_err(|source| ManifestError::Yaml { index, source })?;
        if meta.api_version != API_VERSION {
            return Err(ManifestError::ApiVersion { index, found: meta.api_version });
        }
        let name = meta.metadata.name;
        match meta.kind.as_str() {
            "LedgerNetwork" => push("LedgerNetwork", name, value, &mut self.networks),
            "Organization" => push("Organization", name, value, &mut self.organizations),
            "Channel" => push("Channel", name, value, &mut self.channels),
            "Chaincode" => push("Chaincode", name, value, &mut self.chaincodes),
            _ => Err(ManifestError::Kind { index, found: meta.kind }),
        }
    }
}

fn push<K>(
    kind: &'static str,
    name: String,
    value: serde_yaml::Value,
    into: &mut Vec<K>,
) -> Result<(), ManifestError>
where
    K: kube::Resource + for<'de> Deserialize<'de>,
{
    if into.iter().any(|other| other.meta().name.as_deref() == Some(name.as_str())) {
        return Err(ManifestError::Duplicate { kind, name });
    }
    let object = serde_yaml::from_value(value).map_err(|source| ManifestError::Field {
        kind: kind.to_owned(),
        name,
        source,
    })?;
    into.push(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = Manifest::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_example_parses() {
        let manifest = Manifest::parse(include_str!("../../examples/basic.yaml")).unwrap();
        assert_eq!(manifest.organizations.len(), 2);
        assert_eq!(manifest.chaincodes[0].spec.version, "1.0");
    }

    #[test]
    fn errors_name_the_document_and_the_field() {
        check("", "no document");
        check("a: [", "document 1: failed to read YAML");
        check("apiVersion: v1\nkind: Pod", "apiVersion is \"v1\"");
        check("apiVersion: weft.dev/v1alpha1\nkind: Ledger", "unknown kind \"Ledger\"");
        let channel = "apiVersion: weft.dev/v1alpha1\nkind: Channel\nmetadata: {name: c}\nspec: ";
        check(&format!("{channel}{{networkRef: n}}"), "Channel \"c\"");
        check(&format!("{channel}{{networkRef: n}}"), "organizations");
        check(
            &format!(
                "{channel}{{networkRef: n, organizations: [a]}}\n---\n{channel}{{networkRef: n, organizations: [a]}}"
            ),
            "twice",
        );
    }
}
