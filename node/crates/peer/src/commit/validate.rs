//! The checks of a block's transactions that need state, in the block's order.

use std::collections::HashSet;

use weft_config::Bundle;
use weft_ledger::BlockStoreError;
use weft_ledger::mvcc::{self, Validated};
use weft_ledger::state::{StateError, StateReader};
use weft_types::{BlockNumber, ValidationCode};

use super::endorsement::{BlockEndorsements, RuleBook};
use super::plan::PlanError;
use super::preload::Preloaded;
use super::transaction::{Checked, Outcome};

/// Which transaction ids the chain before a block has.
pub trait KnownIds {
    /// For each id whether it stands in an earlier block, valid or not.
    ///
    /// # Errors
    /// Fails when the ledger cannot be read.
    fn known(&self, ids: &[&str]) -> Result<Vec<bool>, BlockStoreError>;
}

/// A block could not be validated. Nothing is wrong with the block: its turn must come again.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// Transaction ids could not be looked up.
    #[error("failed to look up transaction ids")]
    Ids(#[source] BlockStoreError),
    /// State could not be read.
    #[error("failed to validate against the state")]
    State(#[source] StateError),
    /// What the block does to private data could not be told.
    #[error("failed to look up what the block does to private data")]
    Private(#[source] PlanError),
}

/// Validates a block's transactions after [`super::transaction::check`]: duplicate ids in the chain,
/// content, endorsements, duplicate ids in the block, and versions (MVCC), in this order
/// (Fabric: core/committer/txvalidator/v20/validator.go).
///
/// A transaction repeats another of its block only when that one is endorsed; it does not matter
/// whether the other then fails for its versions. `state` and `known` are those before the block.
///
/// # Errors
/// [`ValidateError`] when the ledger cannot be read.
pub fn validate(
    number: BlockNumber,
    bundle: &Bundle,
    transactions: &[Checked],
    book: &mut RuleBook,
    state: &dyn StateReader,
    known: &dyn KnownIds,
) -> Result<Validated, ValidateError> {
    let repeated = repeated_ids(transactions, known).map_err(ValidateError::Ids)?;
    let state = Preloaded::load(state, transactions).map_err(ValidateError::State)?;
    let mut endorsements = BlockEndorsements::new(book, bundle, &state);
    let mut codes = Vec::with_capacity(transactions.len());
    for (transaction, repeated) in transactions.iter().zip(repeated) {
        let code = match &transaction.outcome {
            Outcome::Invalid(code) => *code,
            // A configuration counts only as the one transaction of its block.
            Outcome::Config if transactions.len() == 1 => ValidationCode::Valid,
            Outcome::Config => ValidationCode::InvalidConfigTransaction,
            Outcome::Endorsed(_) if repeated => ValidationCode::DuplicateTxid,
            Outcome::Endorsed(Err(code)) => *code,
            Outcome::Endorsed(Ok(endorsed)) => {
                endorsements.check(endorsed).map_err(ValidateError::State)?
            }
        };
        codes.push(code);
    }
    mark_repeated_in_block(transactions, &mut codes);
    let inputs: Vec<_> = transactions.iter().zip(codes).map(input).collect();
    mvcc::validate(number, &inputs, &state).map_err(ValidateError::State)
}

fn repeated_ids(
    transactions: &[Checked],
    known: &dyn KnownIds,
) -> Result<Vec<bool>, BlockStoreError> {
    let endorsed = |checked: &Checked| matches!(checked.outcome, Outcome::Endorsed(_));
    let ids: Vec<&str> =
        transactions.iter().filter(|tx| endorsed(tx)).map(|tx| tx.tx_id.as_str()).collect();
    let mut found = known.known(&ids)?.into_iter();
    Ok(transactions.iter().map(|tx| endorsed(tx) && found.next().unwrap_or(false)).collect())
}

fn mark_repeated_in_block(transactions: &[Checked], codes: &mut [ValidationCode]) {
    let mut seen = HashSet::with_capacity(transactions.len());
    for (transaction, code) in transactions.iter().zip(codes) {
        let endorsed = matches!(transaction.outcome, Outcome::Endorsed(_));
        let valid = *code == ValidationCode::Valid;
        if endorsed && valid && !seen.insert(transaction.tx_id.as_str()) {
            *code = ValidationCode::DuplicateTxid;
        }
    }
}

fn input((transaction, code): (&Checked, ValidationCode)) -> mvcc::Transaction<'_> {
    let rwset = match &transaction.outcome {
        Outcome::Endorsed(Ok(endorsed)) => Some(&endorsed.rwset),
        _ => None,
    };
    mvcc::Transaction { code, rwset, in_history: true }
}
