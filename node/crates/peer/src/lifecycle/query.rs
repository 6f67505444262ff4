//! Questions about definitions and approvals (Fabric: core/chaincode/lifecycle/lifecycle.go).

use prost::Message;
use weft_ledger::SimulationError;
use weft_protos::lifecycle::chaincode_source::{Local, Type as SourceType, Unavailable};
use weft_protos::lifecycle::query_approved_chaincode_definitions_result::ApprovedChaincodeDefinition;
use weft_protos::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition;
use weft_protos::lifecycle::{
    ChaincodeSource, QueryApprovedChaincodeDefinitionArgs, QueryApprovedChaincodeDefinitionResult,
    QueryApprovedChaincodeDefinitionsResult, QueryChaincodeDefinitionArgs,
    QueryChaincodeDefinitionResult, QueryChaincodeDefinitionsResult, StateMetadata,
};

use super::approve::source_record;
use super::commit::approvals;
use super::definition::Parameters;
use super::functions::{ChannelCall, FunctionError};
use super::layout::{
    self, DEFINITION, LOCAL_PACKAGE, LayoutError, NAMESPACES, PACKAGE_ID, PARAMETERS, Record,
    SOURCES, private_name,
};
use super::state::{AccessError, Private};
use super::{NAMESPACE, implicit_collection};

/// What an organization approved.
struct Approved {
    sequence: i64,
    parameters: Parameters,
    source: ChaincodeSource,
}

impl ChannelCall<'_> {
    /// The definition in force, and which organizations have approved it.
    ///
    /// # Errors
    /// [`FunctionError::NotDefined`] when there is none.
    pub fn query(
        &mut self,
        args: QueryChaincodeDefinitionArgs,
    ) -> Result<QueryChaincodeDefinitionResult, FunctionError> {
        let found = self.current(&args.name)?;
        let found = found.ok_or(FunctionError::NotDefined(args.name))?;
        let approvals = approvals(&self.answers(&found)?);
        let parameters = found.parameters;
        Ok(QueryChaincodeDefinitionResult {
            sequence: found.sequence,
            version: parameters.version,
            endorsement_plugin: parameters.endorsement_plugin,
            validation_plugin: parameters.validation_plugin,
            validation_parameter: parameters.validation_parameter,
            collections: Some(parameters.collections),
            init_required: parameters.init_required,
            approvals,
        })
    }

    /// All definitions in force, by name.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn query_all(&mut self) -> Result<QueryChaincodeDefinitionsResult, FunctionError> {
        let mut chaincode_definitions = Vec::new();
        for name in self.defined_names()? {
            let Some(found) = self.current(&name)? else { continue };
            let parameters = found.parameters;
            chaincode_definitions.push(ChaincodeDefinition {
                name,
                sequence: found.sequence,
                version: parameters.version,
                endorsement_plugin: parameters.endorsement_plugin,
                validation_plugin: parameters.validation_plugin,
                validation_parameter: parameters.validation_parameter,
                collections: Some(parameters.collections),
                init_required: parameters.init_required,
            });
        }
        Ok(QueryChaincodeDefinitionsResult { chaincode_definitions })
    }

    fn defined_names(&mut self) -> Result<Vec<String>, FunctionError> {
        let prefix = layout::metadata_key(NAMESPACES, "");
        let end = format!("{prefix}\u{7f}");
        let failed = FunctionError::PrivateRange;
        let cursor = self.simulator.open_range(NAMESPACE, &prefix, &end).map_err(failed)?;
        let mut names = Vec::new();
        while let Some(entry) = self.simulator.next(cursor).map_err(failed)? {
            let metadata = StateMetadata::decode(entry.value);
            let is_definition = metadata.is_ok_and(|metadata| metadata.datatype == DEFINITION);
            if let (true, Some(name)) = (is_definition, entry.key.strip_prefix(&prefix)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// What the peer's organization has approved at a sequence; at sequence 0, the newest.
    ///
    /// # Errors
    /// [`FunctionError::NotApproved`] when there is no approval, and a failure to read where this
    /// peer has no more than its hashes and cannot work out the values.
    pub fn query_approved(
        &mut self,
        args: QueryApprovedChaincodeDefinitionArgs,
    ) -> Result<QueryApprovedChaincodeDefinitionResult, FunctionError> {
        let QueryApprovedChaincodeDefinitionArgs { name, mut sequence } = args;
        if sequence == 0 {
            sequence = self.newest_approved(&name)?;
        }
        let channel = self.channel();
        let found = self.approved(&name, sequence)?;
        let Approved { sequence, parameters, source } =
            found.ok_or(FunctionError::NotApproved { name, sequence, channel })?;
        Ok(QueryApprovedChaincodeDefinitionResult {
            sequence,
            version: parameters.version,
            endorsement_plugin: parameters.endorsement_plugin,
            validation_plugin: parameters.validation_plugin,
            validation_parameter: parameters.validation_parameter,
            collections: Some(parameters.collections),
            init_required: parameters.init_required,
            source: Some(source),
        })
    }

    /// Everything that the peer's organization has approved, by name and sequence, as far as this
    /// peer has the values.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn query_approved_all(
        &mut self,
    ) -> Result<QueryApprovedChaincodeDefinitionsResult, FunctionError> {
        let mut all = Vec::new();
        for (name, sequence) in self.approved_names()? {
            let Some(found) = self.approved(&name, sequence)? else { continue };
            let parameters = found.parameters;
            all.push(ApprovedChaincodeDefinition {
                name,
                sequence,
                version: parameters.version,
                endorsement_plugin: parameters.endorsement_plugin,
                validation_plugin: parameters.validation_plugin,
                validation_parameter: parameters.validation_parameter,
                collections: Some(parameters.collections),
                init_required: parameters.init_required,
                source: Some(found.source),
            });
        }
        Ok(QueryApprovedChaincodeDefinitionsResult { approved_chaincode_definitions: all })
    }

    fn approved_names(&mut self) -> Result<Vec<(String, i64)>, FunctionError> {
        let collection = implicit_collection(self.msp_id().as_str());
        let prefix = layout::metadata_key(NAMESPACES, "");
        let end = format!("{prefix}\u{7f}");
        let range = (prefix.as_str(), end.as_str());
        let found = self.simulator.private_range(NAMESPACE, &collection, range, usize::MAX);
        let found = found.map_err(FunctionError::PrivateRange)?;
        let mut names: Vec<(String, i64)> = found
            .iter()
            .filter_map(|(key, _)| {
                let (name, sequence) = key.strip_prefix(&prefix)?.split_once('#')?;
                Some((name.to_owned(), sequence.parse().ok()?))
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// The next sequence when it is approved, else the current one.
    fn newest_approved(&mut self, name: &str) -> Result<i64, FunctionError> {
        let current = self.current_sequence(name)?;
        let next = current.saturating_add(1);
        let collection = implicit_collection(self.msp_id().as_str());
        let mut state = Private { simulator: self.simulator, collection: &collection };
        let stored = Record::is_stored(&mut state, NAMESPACES, &private_name(name, next));
        Ok(if stored.map_err(FunctionError::Layout)? { next } else { current })
    }

    fn approved(&mut self, name: &str, sequence: i64) -> Result<Option<Approved>, FunctionError> {
        let collection = implicit_collection(self.msp_id().as_str());
        let mut state = Private { simulator: self.simulator, collection: &collection };
        match read_approved(&mut state, &private_name(name, sequence), sequence) {
            Err(missing) if is_missing(&missing) => match self.worked_out(name, sequence)? {
                Some(approved) => Ok(Some(approved)),
                None => Err(FunctionError::Layout(missing)),
            },
            found => found.map_err(FunctionError::Layout),
        }
    }

    /// An approval of which this peer has the hashes only: it is that of the definition in force,
    /// with a package that is installed or with none, when the hashes say so.
    fn worked_out(&mut self, name: &str, sequence: i64) -> Result<Option<Approved>, FunctionError> {
        let current = self.current(name)?.filter(|current| current.sequence == sequence);
        let Some(current) = current else { return Ok(None) };
        let collection = implicit_collection(self.msp_id().as_str());
        let private = private_name(name, sequence);
        let mut packages = self.sources.installed();
        packages.push(String::new());
        let mut state = Private { simulator: self.simulator, collection: &collection };
        let record = current.parameters.record();
        let differs = record.mismatches(&mut state, NAMESPACES, &private);
        if !differs.map_err(FunctionError::Layout)?.is_empty() {
            return Ok(None);
        }
        for package in packages {
            let differs = source_record(&package).mismatches(&mut state, SOURCES, &private);
            if differs.map_err(FunctionError::Layout)?.is_empty() {
                let (parameters, source) = (current.parameters, source(package));
                return Ok(Some(Approved { sequence, parameters, source }));
            }
        }
        Ok(None)
    }
}

fn is_missing(error: &LayoutError) -> bool {
    let LayoutError::Access(AccessError::Simulation(error)) = error else { return false };
    matches!(error, SimulationError::PrivateMissing { .. })
}

/// An empty id is no package.
fn source(package_id: String) -> ChaincodeSource {
    let source = match package_id.is_empty() {
        true => SourceType::Unavailable(Unavailable {}),
        false => SourceType::LocalPackage(Local { package_id }),
    };
    ChaincodeSource { r#type: Some(source) }
}

fn read_approved(
    state: &mut Private<'_>,
    name: &str,
    sequence: i64,
) -> Result<Option<Approved>, LayoutError> {
    let Some(metadata) = layout::read_metadata(state, NAMESPACES, name)? else { return Ok(None) };
    layout::check_datatype(&metadata, PARAMETERS)?;
    let parameters = Parameters::read(state, name)?;
    let Some(metadata) = layout::read_metadata(state, SOURCES, name)? else { return Ok(None) };
    layout::check_datatype(&metadata, LOCAL_PACKAGE)?;
    let package_id = layout::read_text(state, SOURCES, name, PACKAGE_ID)?;
    Ok(Some(Approved { sequence, parameters, source: source(package_id) }))
}
