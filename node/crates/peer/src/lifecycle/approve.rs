//! An organization's approval of a definition (Fabric: core/chaincode/lifecycle/lifecycle.go).
//!
//! All that is decided here is decided from hashes, so that every peer of the organization comes
//! to the same results, also one that does not have the values of an earlier approval.

use weft_protos::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ApproveChaincodeDefinitionForMyOrgResult,
};

use super::args::package_id;
use super::definition::{Definition, Parameters};
use super::functions::{ChannelCall, FunctionError};
use super::implicit_collection;
use super::layout::{Field, LOCAL_PACKAGE, NAMESPACES, PACKAGE_ID, Record, SOURCES, private_name};
use super::state::Private;

/// The package that an organization chose, as an approval stores it.
pub(super) fn source_record(package_id: &str) -> Record {
    Record {
        datatype: LOCAL_PACKAGE,
        fields: vec![(PACKAGE_ID, Field::Text(package_id.to_owned()))],
    }
}

impl ChannelCall<'_> {
    /// Records that the peer's organization approves a definition: the one in force, or the next.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn approve(
        &mut self,
        args: ApproveChaincodeDefinitionForMyOrgArgs,
    ) -> Result<ApproveChaincodeDefinitionForMyOrgResult, FunctionError> {
        let package_id = package_id(args.source.as_ref());
        let mut proposed = Definition::from(args);
        self.validate(&proposed)?;
        let current = self.current_sequence(&proposed.name)?;
        check_sequence(proposed.sequence, current)?;
        self.set_defaults(&mut proposed.parameters)?;
        if proposed.sequence == current {
            self.check_same(&proposed)?;
        }
        if self.is_approved(&proposed, &package_id)? {
            let Definition { name, sequence, .. } = proposed;
            return Err(match sequence == current {
                true => FunctionError::Unchanged { sequence, name },
                false => FunctionError::UnchangedNext { sequence, name },
            });
        }
        let name = private_name(&proposed.name, proposed.sequence);
        let collection = implicit_collection(self.msp_id().as_str());
        let mut state = Private { simulator: self.simulator, collection: &collection };
        let parameters = proposed.parameters.record();
        parameters
            .write_over_hashes(&mut state, NAMESPACES, &name)
            .map_err(FunctionError::Layout)?;
        source_record(&package_id)
            .write_over_hashes(&mut state, SOURCES, &name)
            .map_err(FunctionError::Layout)?;
        tracing::info!(
            chaincode = proposed.name,
            sequence = proposed.sequence,
            version = proposed.version(),
            package_id,
            "endorsed the approval of a chaincode definition"
        );
        Ok(ApproveChaincodeDefinitionForMyOrgResult {})
    }

    /// The definition that is in force cannot be approved in other words.
    fn check_same(&mut self, proposed: &Definition) -> Result<(), FunctionError> {
        let current = self.current(&proposed.name)?;
        let current = current.ok_or_else(|| FunctionError::NotDefined(proposed.name.clone()))?;
        let difference = difference(&current.parameters, &proposed.parameters);
        difference.map_or(Ok(()), |difference| {
            let Definition { sequence, name, .. } = current;
            Err(FunctionError::Different { sequence, name, difference })
        })
    }

    /// Whether the organization has approved exactly this, with this package.
    fn is_approved(
        &mut self,
        proposed: &Definition,
        package_id: &str,
    ) -> Result<bool, FunctionError> {
        let name = private_name(&proposed.name, proposed.sequence);
        let collection = implicit_collection(self.msp_id().as_str());
        let mut state = Private { simulator: self.simulator, collection: &collection };
        let stored = Record::is_stored(&mut state, NAMESPACES, &name);
        if !stored.map_err(FunctionError::Layout)? {
            return Ok(false);
        }
        let parameters = proposed.parameters.record();
        let differs = parameters.mismatches(&mut state, NAMESPACES, &name);
        if !differs.map_err(FunctionError::Layout)?.is_empty() {
            return Ok(false);
        }
        let differs = source_record(package_id).mismatches(&mut state, SOURCES, &name);
        Ok(differs.map_err(FunctionError::Layout)?.is_empty())
    }
}

fn check_sequence(requested: i64, current: i64) -> Result<(), FunctionError> {
    let next = current.saturating_add(1);
    if requested == 0 && current == 0 {
        return Err(FunctionError::Zero);
    }
    if requested < current {
        return Err(FunctionError::Past { current, requested });
    }
    if requested > next {
        return Err(FunctionError::Ahead { requested, next });
    }
    Ok(())
}

/// In what two definitions differ first; `None` when they are the same.
fn difference(expected: &Parameters, passed: &Parameters) -> Option<String> {
    let texts = [
        ("Version", &expected.version, &passed.version),
        ("EndorsementPlugin", &expected.endorsement_plugin, &passed.endorsement_plugin),
        ("ValidationPlugin", &expected.validation_plugin, &passed.validation_plugin),
    ];
    let told = |what: &str, expected: &str, passed: &str| {
        format!("expected {what} '{expected}' does not match passed {what} '{passed}'")
    };
    if let Some((what, expected, passed)) = texts.into_iter().find(|(_, a, b)| a != b) {
        return Some(told(what, expected, passed));
    }
    if expected.init_required != passed.init_required {
        let (expected, passed) = (expected.init_required, passed.init_required);
        return Some(told("InitRequired", &expected.to_string(), &passed.to_string()));
    }
    let (policy, other) = (&expected.validation_parameter, &passed.validation_parameter);
    if policy != other {
        return Some(told("ValidationParameter", &hex::encode(policy), &hex::encode(other)));
    }
    (expected.collections != passed.collections).then(|| "Collections do not match".to_owned())
}
