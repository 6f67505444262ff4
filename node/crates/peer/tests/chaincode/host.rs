//! A peer around the runtime, in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;
use weft_peer::blocking::Blocking;
use weft_peer::chaincode::{BlockingState, CollectionAccess, Host, HostError, StateAccess, Target};
use weft_protos::peer;

use crate::state::MemoryState;

#[derive(Default)]
pub struct MemoryHost {
    /// Package ids by chaincode name.
    pub chaincodes: BTreeMap<String, String>,
    /// Chaincodes that must be called as initialization.
    pub init: BTreeSet<String>,
    /// Other channels.
    pub channels: BTreeMap<String, MemoryState>,
    /// Chaincodes that contracts may not call.
    pub forbidden: BTreeSet<String>,
    /// What may be done with collections, by chaincode and name.
    pub collections: BTreeMap<(String, String), CollectionAccess>,
    /// Collections that were looked up, in that order.
    pub looked_up: Mutex<Vec<String>>,
}

#[async_trait]
impl Host for MemoryHost {
    fn resolve(
        &self,
        channel: &str,
        chaincode: &str,
        is_init: bool,
        _state: &mut dyn StateAccess,
    ) -> Result<Target, HostError> {
        if self.is_system(chaincode) {
            return Ok(Target::System);
        }
        let package_id = self.chaincodes.get(chaincode).cloned().ok_or_else(|| {
            HostError::new(format!("[channel {channel}] chaincode {chaincode} is not defined"))
        })?;
        if is_init && !self.init.contains(chaincode) {
            return Err(HostError::new("it does not require initialization but called as init"));
        }
        Ok(Target::Contract { package_id, init: is_init })
    }

    fn check_call(
        &self,
        _channel: &str,
        chaincode: &str,
        _proposal: Option<&peer::SignedProposal>,
    ) -> Result<(), HostError> {
        if self.forbidden.contains(chaincode) {
            return Err(HostError::new(format!("access denied to {chaincode}")));
        }
        Ok(())
    }

    fn is_system(&self, chaincode: &str) -> bool {
        chaincode == "qscc"
    }

    fn open_state(&self, channel: &str, _tx_id: &str) -> Result<Box<BlockingState>, HostError> {
        match self.channels.get(channel) {
            Some(state) => Ok(Box::new(Blocking::new(state.clone()))),
            None => Err(HostError::new(format!("failed to find ledger for channel: {channel}"))),
        }
    }

    async fn invoke_system(
        &self,
        _channel: &str,
        _tx_id: &str,
        chaincode: &str,
        input: &peer::ChaincodeInput,
        _proposal: Option<&peer::SignedProposal>,
        _state: &mut BlockingState,
    ) -> Result<peer::Response, HostError> {
        let payload = input.args.first().cloned().unwrap_or_default();
        Ok(peer::Response { status: 200, message: format!("from {chaincode}"), payload })
    }

    fn key_level_endorsement(&self, channel: &str) -> bool {
        channel != "old"
    }

    fn purges_private_data(&self, channel: &str) -> bool {
        channel != "old"
    }

    fn collection(
        &self,
        channel: &str,
        chaincode: &str,
        collection: &str,
    ) -> Result<Option<CollectionAccess>, HostError> {
        self.looked_up.lock().push(format!("{channel}/{chaincode}/{collection}"));
        if collection == "broken" {
            return Err(HostError::new("the definition cannot be read"));
        }
        Ok(self.collections.get(&(chaincode.to_owned(), collection.to_owned())).copied())
    }
}
