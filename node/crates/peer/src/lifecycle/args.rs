//! What clients may call a chaincode, and their arguments as definitions
//! (Fabric: core/chaincode/lifecycle/scc.go, validateInput).

use weft_protos::lifecycle::chaincode_source::Type as SourceType;
use weft_protos::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CheckCommitReadinessArgs,
    CommitChaincodeDefinitionArgs,
};

use super::definition::{Definition, Parameters};
use super::functions::FunctionError;

/// Names that system chaincodes have, or have had.
const SYSTEM: [&str; 5] = ["cscc", "escc", "lscc", "qscc", "vscc"];

/// Letters and digits, in groups that single `-` or `_` join.
pub(super) fn check_name(name: &str) -> Result<(), FunctionError> {
    let mut groups = name.split(['-', '_']);
    let is_group = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_alphanumeric());
    if !groups.all(is_group) {
        return Err(FunctionError::Name(name.to_owned()));
    }
    if SYSTEM.contains(&name) {
        return Err(FunctionError::SystemName(name.to_owned()));
    }
    Ok(())
}

pub(super) fn check_version(version: &str) -> Result<(), FunctionError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    if version.is_empty() || !version.bytes().all(allowed) {
        return Err(FunctionError::Version(version.to_owned()));
    }
    Ok(())
}

/// The id of the package that a source names; empty when there is none.
pub(super) fn package_id(source: Option<&ChaincodeSource>) -> String {
    match source.and_then(|source| source.r#type.as_ref()) {
        Some(SourceType::LocalPackage(local)) => local.package_id.clone(),
        Some(SourceType::Unavailable(_)) | None => String::new(),
    }
}

macro_rules! definition_from {
    ($args:ty) => {
        impl From<$args> for Definition {
            fn from(args: $args) -> Self {
                let parameters = Parameters {
                    version: args.version,
                    init_required: args.init_required,
                    endorsement_plugin: args.endorsement_plugin,
                    validation_plugin: args.validation_plugin,
                    validation_parameter: args.validation_parameter,
                    collections: args.collections.unwrap_or_default(),
                };
                Self { name: args.name, sequence: args.sequence, parameters }
            }
        }
    };
}

definition_from!(ApproveChaincodeDefinitionForMyOrgArgs);
definition_from!(CheckCommitReadinessArgs);
definition_from!(CommitChaincodeDefinitionArgs);
