//! What a chaincode's status says.

use super::program;
use super::{Done, QUIET, SOON, status_of};
use crate::api::{Chaincode, ChaincodeStatus};
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::controllers::report::Report;
use crate::cluster::events::Note;
use crate::cluster::ledger::chaincode::{ChaincodeOutcome, ChaincodeState};

/// Everything that is known, in the status's words.
pub(super) fn report(object: &Chaincode, done: Done) -> Report<ChaincodeStatus> {
    let mut status = status_of(object);
    status.package_id = Some(done.package_id);
    status.program = done.program.as_ref().map(|program| program.name.clone());
    let mut notes = Vec::new();
    let committed = match &done.ledger {
        Err(finding) => finding.clone(),
        Ok(outcome) => {
            status.sequence = outcome.sequence;
            status.approvals.clone_from(&outcome.approvals);
            notes = outcome.did.iter().map(|did| Note::normal("ChaincodeChanged", did)).collect();
            committed(outcome)
        }
    };
    let parts: Vec<Finding> =
        program::finding(done.program.as_ref()).into_iter().chain([committed]).collect();
    let all_well = parts.iter().all(|part| part.status == Some(true));
    let version = &object.spec.version;
    Report {
        ready: format!(
            "version {version} is committed as sequence {}",
            status.sequence.unwrap_or_default()
        ),
        status,
        parts,
        notes,
        again: if all_well { QUIET } else { SOON },
    }
}

fn committed(outcome: &ChaincodeOutcome) -> Finding {
    match &outcome.state {
        ChaincodeState::Ready => {
            Finding::yes(kind::COMMITTED, "Committed", "the definition is what the spec says")
        }
        ChaincodeState::Waiting(waiting) => {
            Finding::no(kind::COMMITTED, waiting.reason, &waiting.message)
        }
        ChaincodeState::NeedsApprovals { message, .. } => {
            Finding::no(kind::COMMITTED, "ApprovalsNeeded", message)
        }
    }
}
