//! What a channel has agreed on for a chaincode.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weft_ledger::state::{StateError, StateReader};
use weft_msp::policy::application::{ApplicationPolicy, ApplicationPolicyError};
use weft_protos::lifecycle::{ChaincodeEndorsementInfo, ChaincodeValidationInfo, StateMetadata};
use weft_protos::peer::{CollectionConfigPackage, StaticCollectionConfig};

use super::NAMESPACE;
use super::collections::static_collections;
use super::layout::{
    self, COLLECTIONS, DEFINITION, ENDORSEMENT_INFO, Field, LayoutError, NAMESPACES, PARAMETERS,
    Record, SEQUENCE, VALIDATION_INFO,
};
use super::state::{AccessError, ReadState, Snapshot};
use crate::commit::endorsement::{self, Rules, RulesError};

/// What organizations agree on, apart from name and sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// The chaincode's version.
    pub version: String,
    /// Whether a first call must initialize it.
    pub init_required: bool,
    /// Name of the endorsement plugin.
    pub endorsement_plugin: String,
    /// Name of the validation plugin.
    pub validation_plugin: String,
    /// The validation plugin's parameter: an encoded `protos.ApplicationPolicy`.
    pub validation_parameter: Bytes,
    /// Collections of private data.
    pub collections: CollectionConfigPackage,
}

/// A chaincode that is defined on a channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// The chaincode's name, which is also the namespace of its state.
    pub name: String,
    /// Counts the definitions of this chaincode, from 1.
    pub sequence: i64,
    /// What was agreed on.
    pub parameters: Parameters,
}

/// A definition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The stored form of it cannot be read.
    #[error("failed to read the definition of chaincode {name}: {source}")]
    Layout {
        /// The chaincode.
        name: String,
        /// Why not.
        source: LayoutError,
    },
    /// The list of definitions cannot be read.
    #[error("failed to list the chaincode definitions: {0}")]
    List(#[source] StateError),
}

impl Parameters {
    fn endorsement_info(&self) -> ChaincodeEndorsementInfo {
        ChaincodeEndorsementInfo {
            version: self.version.clone(),
            init_required: self.init_required,
            endorsement_plugin: self.endorsement_plugin.clone(),
        }
    }

    fn validation_info(&self) -> ChaincodeValidationInfo {
        ChaincodeValidationInfo {
            validation_plugin: self.validation_plugin.clone(),
            validation_parameter: self.validation_parameter.clone(),
        }
    }

    fn fields(&self) -> [(&'static str, Field); 3] {
        let encoded = |bytes: Vec<u8>| Field::Bytes(bytes.into());
        [
            (ENDORSEMENT_INFO, encoded(self.endorsement_info().encode_to_vec())),
            (VALIDATION_INFO, encoded(self.validation_info().encode_to_vec())),
            (COLLECTIONS, encoded(self.collections.encode_to_vec())),
        ]
    }

    /// As an approval stores it.
    #[must_use]
    pub fn record(&self) -> Record {
        Record { datatype: PARAMETERS, fields: self.fields().into() }
    }

    /// Reads the parameters of `name`, a chaincode or a sequence of one.
    ///
    /// # Errors
    /// Fails where the state cannot be read, or a field is not in its form.
    pub fn read<S: ReadState + ?Sized>(state: &mut S, name: &str) -> Result<Self, LayoutError> {
        let endorsement: ChaincodeEndorsementInfo =
            layout::read_message(state, NAMESPACES, name, ENDORSEMENT_INFO)?;
        let validation: ChaincodeValidationInfo =
            layout::read_message(state, NAMESPACES, name, VALIDATION_INFO)?;
        let collections = layout::read_message(state, NAMESPACES, name, COLLECTIONS)?;
        Ok(Self {
            version: endorsement.version,
            init_required: endorsement.init_required,
            endorsement_plugin: endorsement.endorsement_plugin,
            validation_plugin: validation.validation_plugin,
            validation_parameter: validation.validation_parameter,
            collections,
        })
    }

    /// The endorsement policy.
    ///
    /// # Errors
    /// Fails when it is not one.
    pub fn policy(&self) -> Result<ApplicationPolicy, ApplicationPolicyError> {
        ApplicationPolicy::decode(self.validation_parameter.clone())
    }

    /// The collections, each with a fixed membership; there are no others.
    pub fn static_collections(&self) -> impl Iterator<Item = &StaticCollectionConfig> {
        static_collections(&self.collections)
    }
}

impl Definition {
    /// The endorsement policy.
    ///
    /// # Errors
    /// Fails when it is not one.
    pub fn policy(&self) -> Result<ApplicationPolicy, ApplicationPolicyError> {
        self.parameters.policy()
    }

    /// The chaincode's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.parameters.version
    }

    /// A collection by its name.
    #[must_use]
    pub fn collection(&self, name: &str) -> Option<&StaticCollectionConfig> {
        self.parameters.static_collections().find(|collection| collection.name == name)
    }

    /// As the state holds it.
    #[must_use]
    pub fn record(&self) -> Record {
        let mut fields = vec![(SEQUENCE, Field::Number(self.sequence))];
        fields.extend(self.parameters.fields());
        Record { datatype: DEFINITION, fields }
    }

    /// Reads a definition; `None` when there is none.
    ///
    /// # Errors
    /// Fails where the state cannot be read, or what is stored is no definition.
    pub fn read<S: ReadState + ?Sized>(
        state: &mut S,
        name: &str,
    ) -> Result<Option<Self>, LayoutError> {
        let Some(metadata) = layout::read_metadata(state, NAMESPACES, name)? else {
            return Ok(None);
        };
        layout::check_datatype(&metadata, DEFINITION)?;
        let sequence = layout::read_number(state, NAMESPACES, name, SEQUENCE)?;
        let parameters = Parameters::read(state, name)?;
        Ok(Some(Self { name: name.to_owned(), sequence, parameters }))
    }
}

/// The definition of a chaincode, as of `state`; `None` when it is not defined.
///
/// # Errors
/// Fails where the state cannot be read, or what is stored is no definition.
pub fn definition(
    state: &dyn StateReader,
    name: &str,
) -> Result<Option<Definition>, DefinitionError> {
    Definition::read(&mut Snapshot(state), name)
        .map_err(|source| DefinitionError::Layout { name: name.to_owned(), source })
}

/// The sequence of a chaincode's definition, as of `state`; 0 when it is not defined. Cheaper than
/// the definition, and changes whenever that does.
///
/// # Errors
/// Fails where the state cannot be read.
pub fn sequence(state: &dyn StateReader, name: &str) -> Result<i64, DefinitionError> {
    layout::read_number(&mut Snapshot(state), NAMESPACES, name, SEQUENCE)
        .map_err(|source| DefinitionError::Layout { name: name.to_owned(), source })
}

/// All definitions, by name.
///
/// # Errors
/// Fails where the state cannot be read, or what is stored is no definition.
pub fn definitions(state: &dyn StateReader) -> Result<Vec<Definition>, DefinitionError> {
    let prefix = layout::metadata_key(NAMESPACES, "");
    let end = format!("{prefix}\u{7f}");
    let found = state.range(NAMESPACE, &prefix, &end, usize::MAX).map_err(DefinitionError::List)?;
    let mut all = Vec::with_capacity(found.len());
    for (key, stored) in found {
        let metadata = StateMetadata::decode(stored.value);
        let Some(name) = key.strip_prefix(&prefix) else { continue };
        if metadata.is_ok_and(|metadata| metadata.datatype == DEFINITION) {
            all.extend(definition(state, name)?);
        }
    }
    Ok(all)
}

/// Definitions as the validator asks for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct LedgerDefinitions;

impl endorsement::Definitions for LedgerDefinitions {
    fn rules(&self, state: &dyn StateReader, name: &str) -> Result<Option<Rules>, RulesError> {
        let found = match Definition::read(&mut Snapshot(state), name) {
            Ok(found) => found,
            Err(LayoutError::Access(AccessError::State(error))) => {
                return Err(RulesError::State(error));
            }
            Err(error) => {
                return Err(RulesError::Unsound {
                    name: name.to_owned(),
                    reason: error.to_string(),
                });
            }
        };
        Ok(found.map(|found| rules(&found.parameters)))
    }
}

fn rules(parameters: &Parameters) -> Rules {
    let collections: BTreeMap<String, Option<Bytes>> = parameters
        .static_collections()
        .map(|collection| {
            let policy = collection.endorsement_policy.as_ref();
            (collection.name.clone(), policy.map(|policy| policy.encode_to_vec().into()))
        })
        .collect();
    Rules { policy: parameters.validation_parameter.clone(), collections }
}
