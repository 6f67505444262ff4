//! The functions of `_lifecycle` that concern a channel, and what they can answer instead of a
//! result (Fabric: core/chaincode/lifecycle/lifecycle.go, scc.go).
//!
//! [`ChannelCall`] is one call of one of them; the functions are its methods.

use bytes::Bytes;
use weft_config::Bundle;
use weft_ledger::state::StateError;
use weft_ledger::{SimulationError, Simulator};
use weft_msp::policy::application::{ApplicationPolicy, DEFAULT_ENDORSEMENT};
use weft_types::MspId;

use super::args::{check_name, check_version};
use super::collections::{self, CollectionError};
use super::definition::{Definition, Parameters};
use super::layout::{self, LayoutError, NAMESPACES, SEQUENCE};
use super::sources::Sources;
use super::state::Public;
use super::{ENDORSEMENT_PLUGIN, VALIDATION_PLUGIN};
use crate::chaincode::package::{PackageError, StoreError};

/// A function that gives no result. The texts reach clients, who know Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The chaincode has no definition.
    #[error("namespace {0} is not defined")]
    NotDefined(String),
    /// The name is not one.
    #[error(
        "error validating chaincode definition: invalid chaincode name '{0}'. Names can only consist of alphanumerics, '_', and '-' and can only begin with alphanumerics"
    )]
    Name(String),
    /// The name is taken.
    #[error(
        "error validating chaincode definition: chaincode name '{0}' is the name of a system chaincode"
    )]
    SystemName(String),
    /// The version is not one.
    #[error(
        "error validating chaincode definition: invalid chaincode version '{0}'. Versions can only consist of alphanumerics, '_', '-', '+', and '.'"
    )]
    Version(String),
    /// The collections break a rule.
    #[error("error validating chaincode definition: {0}")]
    Collections(#[source] CollectionError),
    /// A policy is neither written out nor a path.
    #[error("error validating chaincode definition: invalid endorsement policy: {0}")]
    Policy(#[source] weft_msp::policy::application::ApplicationPolicyError),
    /// The channel has no default policy.
    #[error(
        "could not set defaults for chaincode definition in channel {channel}: policy '{policy}' must be defined for channel '{channel}' before chaincode operations can be attempted"
    )]
    NoDefaultPolicy {
        /// The channel.
        channel: String,
        /// Path of the policy.
        policy: &'static str,
    },
    /// The sequence is not the next one.
    #[error("requested sequence is {requested}, but new definition must be sequence {next}")]
    NotNext {
        /// What was asked for.
        requested: i64,
        /// What it must be.
        next: i64,
    },
    /// Sequences begin at 1.
    #[error("requested sequence is 0, but first definable sequence number is 1")]
    Zero,
    /// The sequence is past.
    #[error("currently defined sequence {current} is larger than requested sequence {requested}")]
    Past {
        /// The sequence that is defined.
        current: i64,
        /// What was asked for.
        requested: i64,
    },
    /// The sequence is too far ahead.
    #[error(
        "requested sequence {requested} is larger than the next available sequence number {next}"
    )]
    Ahead {
        /// What was asked for.
        requested: i64,
        /// What it may be.
        next: i64,
    },
    /// The definition exists and says something else.
    #[error(
        "attempted to redefine the current committed sequence ({sequence}) for namespace {name} with different parameters: {difference}"
    )]
    Different {
        /// The sequence.
        sequence: i64,
        /// The chaincode.
        name: String,
        /// What differs.
        difference: String,
    },
    /// The organization has approved exactly this for the definition that is in force.
    #[error(
        "attempted to redefine the current committed sequence ({sequence}) for namespace {name}"
    )]
    Unchanged {
        /// The sequence.
        sequence: i64,
        /// The chaincode.
        name: String,
    },
    /// The organization has approved exactly this already.
    #[error(
        "attempted to redefine uncommitted sequence ({sequence}) for namespace {name} with unchanged content"
    )]
    UnchangedNext {
        /// The sequence.
        sequence: i64,
        /// The chaincode.
        name: String,
    },
    /// The peer's organization has not approved the definition.
    #[error("chaincode definition not agreed to by this org ({0})")]
    NotAgreed(String),
    /// The peer's organization is not of the channel.
    #[error("this peer's organization ({0}) is not a member of the channel")]
    NotMember(String),
    /// There is no such approval.
    #[error(
        "could not fetch approved chaincode definition (name: '{name}', sequence: '{sequence}') on channel '{channel}'"
    )]
    NotApproved {
        /// The chaincode.
        name: String,
        /// The sequence.
        sequence: i64,
        /// The channel.
        channel: String,
    },
    /// What is stored cannot be read.
    #[error("{0}")]
    Layout(#[source] LayoutError),
    /// A query failed.
    #[error("could not iterate over range: {0}")]
    Range(#[source] StateError),
    /// A private query failed.
    #[error("could not iterate over range: {0}")]
    PrivateRange(#[source] SimulationError),
    /// The bytes are no package.
    #[error("could not parse as a chaincode install package: {0}")]
    Package(#[source] PackageError),
    /// The package is too large.
    #[error("the chaincode install package of {size} bytes is larger than the limit of {limit}")]
    PackageTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The package is installed.
    #[error("chaincode already successfully installed (package ID '{0}')")]
    AlreadyInstalled(String),
    /// The package cannot be kept.
    #[error("could not save cc install package: {0}")]
    Save(#[source] StoreError),
    /// The package cannot be read.
    #[error("could not load cc install package: {0}")]
    Load(#[source] StoreError),
    /// The package is not installed.
    #[error("could not find chaincode with package id '{0}'")]
    NotInstalled(String),
    /// The peer is stopping.
    #[error("the peer is shutting down")]
    ShuttingDown,
}

impl FunctionError {
    /// Whether the answer is "there is no such thing" (status 404) rather than a failure.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotDefined(_))
    }
}

/// One call of a function that concerns a channel.
pub struct ChannelCall<'a> {
    /// The channel's configuration.
    pub bundle: &'a Bundle,
    /// The installed packages, and the peer's organization.
    pub sources: &'a Sources,
    /// What is read and written.
    pub simulator: &'a mut Simulator,
}

impl<'a> ChannelCall<'a> {
    pub(super) fn msp_id(&self) -> &'a MspId {
        self.sources.msp_id()
    }

    pub(super) fn channel(&self) -> String {
        self.bundle.channel_id().to_string()
    }

    /// MSP ids of the organizations whose approvals count.
    pub(super) fn organizations(&self) -> Vec<MspId> {
        let application = self.bundle.application();
        application.map(|all| all.msp_ids().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn current_sequence(&mut self, name: &str) -> Result<i64, FunctionError> {
        layout::read_number(&mut Public(self.simulator), NAMESPACES, name, SEQUENCE)
            .map_err(FunctionError::Layout)
    }

    pub(super) fn current(&mut self, name: &str) -> Result<Option<Definition>, FunctionError> {
        Definition::read(&mut Public(self.simulator), name).map_err(FunctionError::Layout)
    }

    /// Checks what can be said of a definition without knowing who approved it.
    pub(super) fn validate(&mut self, proposed: &Definition) -> Result<(), FunctionError> {
        check_name(&proposed.name)?;
        check_version(proposed.version())?;
        let current = self.current(&proposed.name)?;
        if current.is_none() {
            // Fabric's peers look among the definitions of the older lifecycle too, and what was
            // read must be the same at all endorsers.
            let read = self.simulator.get_state("lscc", &proposed.name);
            read.map_err(|error| {
                FunctionError::Layout(LayoutError::Access(super::state::AccessError::Simulation(
                    error,
                )))
            })?;
        }
        let current = current.as_ref().map(|current| &current.parameters.collections);
        let msps = self.bundle.msps();
        collections::check(&proposed.parameters.collections, current, msps)
            .map_err(FunctionError::Collections)?;
        let parameter = &proposed.parameters.validation_parameter;
        if !parameter.is_empty() && is_default(&proposed.parameters.validation_plugin) {
            ApplicationPolicy::decode(parameter.clone()).map_err(FunctionError::Policy)?;
        }
        Ok(())
    }

    /// Fills in what a definition leaves to the channel.
    pub(super) fn set_defaults(&self, parameters: &mut Parameters) -> Result<(), FunctionError> {
        if parameters.endorsement_plugin.is_empty() {
            ENDORSEMENT_PLUGIN.clone_into(&mut parameters.endorsement_plugin);
        }
        if parameters.validation_plugin.is_empty() {
            VALIDATION_PLUGIN.clone_into(&mut parameters.validation_plugin);
        }
        if parameters.validation_parameter.is_empty() {
            parameters.validation_parameter = self.default_policy()?;
        }
        Ok(())
    }

    fn default_policy(&self) -> Result<Bytes, FunctionError> {
        if self.bundle.policies().get(DEFAULT_ENDORSEMENT).is_err() {
            let (channel, policy) = (self.channel(), DEFAULT_ENDORSEMENT);
            return Err(FunctionError::NoDefaultPolicy { channel, policy });
        }
        Ok(ApplicationPolicy::ChannelReference(DEFAULT_ENDORSEMENT.to_owned()).encode())
    }
}

fn is_default(plugin: &str) -> bool {
    plugin.is_empty() || plugin == VALIDATION_PLUGIN
}
