//! Who has approved a definition, and the definition's commit (Fabric:
//! core/chaincode/lifecycle/lifecycle.go).

use std::collections::BTreeMap;

use weft_protos::lifecycle::check_commit_readiness_result::Mismatches;
use weft_protos::lifecycle::{
    CheckCommitReadinessArgs, CheckCommitReadinessResult, CommitChaincodeDefinitionArgs,
    CommitChaincodeDefinitionResult,
};

use super::definition::Definition;
use super::functions::{ChannelCall, FunctionError};
use super::implicit_collection;
use super::layout::{NAMESPACES, private_name};
use super::state::{Private, Public};

/// For each organization, by MSP id, in what its approval differs; nothing when it approved.
type Answers = BTreeMap<String, Vec<String>>;

impl ChannelCall<'_> {
    /// Tells which organizations have approved the next definition, and in what the others differ.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn readiness(
        &mut self,
        args: CheckCommitReadinessArgs,
    ) -> Result<CheckCommitReadinessResult, FunctionError> {
        let mut proposed = Definition::from(args);
        let answers = self.answers_to_next(&mut proposed)?;
        let approvals = approvals(&answers);
        let differing = answers.into_iter().filter(|(_, items)| !items.is_empty());
        let mismatches = differing.map(|(org, items)| (org, Mismatches { items })).collect();
        Ok(CheckCommitReadinessResult { approvals, mismatches })
    }

    /// Makes a definition the one in force. The peer's own organization must have approved it;
    /// whether enough others have is for the policy of such transactions, which asks for their
    /// endorsements.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn commit(
        &mut self,
        args: CommitChaincodeDefinitionArgs,
    ) -> Result<CommitChaincodeDefinitionResult, FunctionError> {
        let mut proposed = Definition::from(args);
        self.validate(&proposed)?;
        if !self.organizations().contains(self.msp_id()) {
            return Err(FunctionError::NotMember(self.msp_id().to_string()));
        }
        let answers = self.answers_to_next(&mut proposed)?;
        let record = proposed.record();
        record
            .write(&mut Public(self.simulator), NAMESPACES, &proposed.name)
            .map_err(FunctionError::Layout)?;
        if !answers.get(self.msp_id().as_str()).is_some_and(Vec::is_empty) {
            return Err(FunctionError::NotAgreed(self.msp_id().to_string()));
        }
        tracing::info!(
            chaincode = proposed.name,
            sequence = proposed.sequence,
            version = proposed.version(),
            "endorsed the commit of a chaincode definition"
        );
        Ok(CommitChaincodeDefinitionResult {})
    }

    fn answers_to_next(&mut self, proposed: &mut Definition) -> Result<Answers, FunctionError> {
        let next = self.current_sequence(&proposed.name)?.saturating_add(1);
        let requested = proposed.sequence;
        if requested != next {
            return Err(FunctionError::NotNext { requested, next });
        }
        self.set_defaults(&mut proposed.parameters)?;
        self.answers(proposed)
    }

    /// How each organization's approval of this sequence compares to this definition.
    pub(super) fn answers(&mut self, definition: &Definition) -> Result<Answers, FunctionError> {
        let name = private_name(&definition.name, definition.sequence);
        let record = definition.parameters.record();
        let mut answers = Answers::new();
        for org in self.organizations() {
            let collection = implicit_collection(org.as_str());
            let mut state = Private { simulator: self.simulator, collection: &collection };
            let items = record.mismatches(&mut state, NAMESPACES, &name);
            answers.insert(org.to_string(), items.map_err(FunctionError::Layout)?);
        }
        Ok(answers)
    }
}

/// Who has approved.
pub(super) fn approvals(answers: &Answers) -> BTreeMap<String, bool> {
    answers.iter().map(|(org, items)| (org.clone(), items.is_empty())).collect()
}
