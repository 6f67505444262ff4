//! Whose endorsements a simulated transaction needs, told by what it read and wrote: the
//! chaincodes, their collections, and keys with policies of their own. Whoever collects the
//! endorsements works out a plan from it (Fabric: core/endorser/endorser.go,
//! buildChaincodeInterest).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_ledger::SimulationResults;
use weft_ledger::rwset::{CollectionRwSet, NsRwSet, RwSetError, TxRwSet};
use weft_ledger::state::{StateError, StateReader, metadata};
use weft_protos::common::SignaturePolicyEnvelope;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest};

use crate::syscc;

/// What a transaction needs cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InterestError {
    /// The read-write set cannot be read.
    #[error("{0}")]
    RwSet(#[source] RwSetError),
    /// The state cannot be read.
    #[error("{0}")]
    State(#[source] StateError),
    /// A key's policy cannot be read.
    #[error("failed to read the policy of a key: {0}")]
    Policy(#[source] DecodeError),
}

/// What one chaincode's part of a transaction needs.
#[derive(Default)]
struct Needs {
    /// The chaincode's own policy.
    chaincode: bool,
    /// Policies of public keys.
    keys: Vec<SignaturePolicyEnvelope>,
    collections: BTreeSet<String>,
}

/// What the results of a simulation need. The chaincode that was `invoked` comes first.
pub(super) fn of(
    invoked: &str,
    results: &SimulationResults,
    state: &dyn StateReader,
) -> Result<ChaincodeInterest, InterestError> {
    let rwset = TxRwSet::from_proto(results.public.clone()).map_err(InterestError::RwSet)?;
    let mut all: BTreeMap<&str, Needs> = BTreeMap::new();
    for part in rwset.namespaces.iter().filter(|part| !syscc::is_system(&part.namespace)) {
        all.insert(&part.namespace, needs(part, state)?);
    }
    for (namespace, collection) in &results.private_reads {
        if let Some(needs) = all.get_mut(namespace.as_str()) {
            needs.collections.insert(collection.clone());
        }
    }
    let mut chaincodes = Vec::new();
    // Its policy is asked for also where it reads and writes nothing itself. Fabric's endorser
    // leaves it out then, and the plan can come out too small for the validator.
    let first = all.remove(invoked).unwrap_or(Needs { chaincode: true, ..Needs::default() });
    for (namespace, needs) in std::iter::once((invoked, first)).chain(all) {
        add_calls(&mut chaincodes, namespace, needs, results);
    }
    Ok(ChaincodeInterest { chaincodes })
}

fn needs(part: &NsRwSet, state: &dyn StateReader) -> Result<Needs, InterestError> {
    let mut needs = Needs::default();
    if !part.has_writes() {
        needs.chaincode = true;
        return Ok(needs);
    }
    let written = part.public.writes.iter().map(|write| &write.key);
    let written = written.chain(part.public.metadata_writes.iter().map(|write| &write.key));
    for key in written.collect::<BTreeSet<_>>() {
        let stored = state.get(&part.namespace, key).map_err(InterestError::State)?;
        match key_policy(stored.map(|stored| stored.metadata))? {
            Some(policy) => needs.keys.push(policy),
            None => needs.chaincode = true,
        }
    }
    for collection in &part.collections {
        if needs_collection(&part.namespace, collection, state)? {
            needs.collections.insert(collection.collection.clone());
        }
    }
    Ok(needs)
}

/// Whether any key is written that has no policy of its own.
fn needs_collection(
    namespace: &str,
    part: &CollectionRwSet,
    state: &dyn StateReader,
) -> Result<bool, InterestError> {
    let written = part.hashed.hashed_writes.iter().map(|write| &write.key_hash);
    let written = written.chain(part.hashed.metadata_writes.iter().map(|write| &write.key_hash));
    for hash in written {
        let stored = state.get_hash(namespace, &part.collection, hash);
        let stored = stored.map_err(InterestError::State)?;
        if key_policy(stored.map(|stored| stored.metadata))?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key_policy(stored: Option<Bytes>) -> Result<Option<SignaturePolicyEnvelope>, InterestError> {
    let Some(stored) = stored.filter(|stored| !stored.is_empty()) else { return Ok(None) };
    let policy = metadata::validation_parameter(&stored).map_err(InterestError::Policy)?;
    let policy = policy.map(|policy| decode("key policy", policy));
    policy.transpose().map_err(InterestError::Policy)
}

fn add_calls(
    calls: &mut Vec<ChaincodeCall>,
    namespace: &str,
    needs: Needs,
    results: &SimulationResults,
) {
    let name = namespace.to_owned();
    if needs.chaincode || !needs.keys.is_empty() {
        calls.push(ChaincodeCall {
            name: name.clone(),
            disregard_namespace_policy: !needs.chaincode,
            key_policies: needs.keys,
            ..ChaincodeCall::default()
        });
    }
    for collection in needs.collections {
        let read = results.private_reads.contains(&(name.clone(), collection.clone()));
        calls.push(ChaincodeCall {
            name: name.clone(),
            collection_names: vec![collection],
            no_private_reads: !read,
            ..ChaincodeCall::default()
        });
    }
}
