//! Effects on the store: the same for an actor's disk and a simulated one.

use weft_ledger::kv::Durability;
use weft_types::{Nonce, Signer};

use super::ChainError;
use super::core::Effect;
use crate::msgprocessor::Rejection;
use crate::store::ChainStore;

impl Effect {
    /// Whether it is done only when everything written so far is on the disk.
    pub(crate) fn syncs(&self) -> bool {
        match self {
            Self::Persist { persist, .. } => persist.sync,
            Self::Append { durability, .. } => *durability == Durability::Synced,
            Self::ForgetLog | Self::JoinBlock(_) => true,
            _ => false,
        }
    }
}

/// Carries out what is for the store; gives back what is not. Blocks are signed by `signer` with a
/// nonce drawn by `nonce`.
///
/// # Errors
/// [`ChainError`]: the channel must not go on.
pub(crate) fn out(
    effect: Effect,
    store: &ChainStore,
    signer: &dyn Signer,
    nonce: impl FnOnce() -> Result<Nonce, Rejection>,
) -> Result<Option<Effect>, ChainError> {
    let stored = match effect {
        Effect::Persist { persist, node } => store.persist(persist, node),
        Effect::Append { block, durability, .. } => {
            let number = block.block.header.as_ref().map_or(0, |header| header.number);
            let broken = |what: String| ChainError::Block { number, what };
            let nonce = nonce().map_err(|error| broken(error.to_string()))?;
            let block = block.sign(signer, nonce).map_err(|error| broken(error.to_string()))?;
            store.append(block, durability).map(|_| ())
        }
        Effect::Copy(block) => store.append(block, Durability::Buffered).map(|_| ()),
        Effect::ForgetLog => store.forget_engine(),
        Effect::JoinBlock(Some(block)) => store.set_join_block(&block),
        Effect::JoinBlock(None) => store.clear_join_block(),
        other => return Ok(Some(other)),
    };
    stored.map_err(ChainError::Store).map(|()| None)
}
