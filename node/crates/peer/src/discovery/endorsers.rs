//! Who can endorse a call on a channel of this peer. Answers are kept until the configuration, a
//! definition or the membership changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use weft_config::Bundle;
use weft_ledger::state::StateReader;
use weft_msp::policy::application::ApplicationPolicy;
use weft_protos::common::SignaturePolicyEnvelope;
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest};
use weft_types::{ChannelId, MspId, Timestamp};

use super::analysis::{
    AnalysisError, ChaincodeRules, CollectionRules, Descriptor, authorized, describe, versions,
};
use crate::channel::Channel;
use crate::lifecycle;
use crate::membership::{ChannelPeer, Membership};

/// The policy of the lifecycle's own transactions (Fabric: core/chaincode/lifecycle).
const LIFECYCLE_POLICY: &str = "/Channel/Application/LifecycleEndorsement";
/// The policy of an organization for its implicit collection, below its group.
const ORG_POLICY: &str = "Endorsement";
/// Answers kept.
const MAX_ANSWERS: usize = 1024;
/// How long an answer is kept: certificates can expire.
const MAX_AGE: Duration = Duration::from_secs(30);

/// Works out who can endorse. Clones share everything.
#[derive(Clone)]
pub struct Endorsers {
    membership: Membership,
    answers: Arc<Mutex<HashMap<(ChannelId, Bytes), Answer>>>,
}

struct Answer {
    config: u64,
    sequences: Vec<i64>,
    generation: u64,
    made: Instant,
    descriptor: Arc<Descriptor>,
}

impl Endorsers {
    /// Endorsers among the peers of `membership`.
    #[must_use]
    pub fn new(membership: Membership) -> Self {
        Self { membership, answers: Arc::default() }
    }

    /// The membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who can endorse a call.
    ///
    /// # Errors
    /// [`AnalysisError`].
    pub fn describe(
        &self,
        channel: &Channel,
        interest: &ChaincodeInterest,
    ) -> Result<Arc<Descriptor>, AnalysisError> {
        let bundle = channel.bundle();
        let state = channel.ledger().state();
        let generation = self.membership.generation();
        let key = (channel.id().clone(), Bytes::from(interest.encode_to_vec()));
        let sequences = sequences(&state, interest)?;
        if let Some(answer) = self.answers.lock().get(&key)
            && answer.config == bundle.sequence()
            && answer.sequences == sequences
            && answer.generation == generation
            && answer.made.elapsed() < MAX_AGE
        {
            return Ok(Arc::clone(&answer.descriptor));
        }
        let lookup = |call: &ChaincodeCall| rules(&bundle, &state, call);
        let peers = self.membership.channel_peers(channel);
        let descriptor = describe(&peers, interest, &lookup, (bundle.msps(), now().into()))?;
        let descriptor = Arc::new(descriptor);
        let answer = Answer {
            config: bundle.sequence(),
            sequences,
            generation,
            made: Instant::now(),
            descriptor: Arc::clone(&descriptor),
        };
        let mut answers = self.answers.lock();
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(key, answer);
        Ok(descriptor)
    }

    /// Peers of a channel that have the chaincodes and may hold the collections of `interest`; all
    /// peers without one.
    ///
    /// # Errors
    /// [`AnalysisError`].
    pub fn peers(
        &self,
        channel: &Channel,
        interest: Option<&ChaincodeInterest>,
    ) -> Result<Vec<ChannelPeer>, AnalysisError> {
        let peers = self.membership.channel_peers(channel);
        let interest = interest.filter(|interest| !interest.chaincodes.is_empty());
        let Some(interest) = interest else { return Ok(peers) };
        let bundle = channel.bundle();
        let state = channel.ledger().state();
        let lookup = |call: &ChaincodeCall| rules(&bundle, &state, call);
        let versions = versions(interest, &lookup)?;
        let found = authorized(&peers, interest, &lookup, (bundle.msps(), now().into()))?;
        let installed = |peer: &&&ChannelPeer| {
            versions.iter().all(|(name, version)| peer.state.has_version(name, version))
        };
        Ok(found.iter().filter(installed).map(|peer| (*peer).clone()).collect())
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

fn sequences(
    state: &dyn StateReader,
    interest: &ChaincodeInterest,
) -> Result<Vec<i64>, AnalysisError> {
    let sequence = |call: &ChaincodeCall| match call.name == lifecycle::NAMESPACE {
        true => Ok(1),
        false => lifecycle::sequence(state, &call.name)
            .map_err(|error| AnalysisError::Policy { reason: error.to_string() }),
    };
    interest.chaincodes.iter().map(sequence).collect()
}

/// What a channel says of a chaincode that is called.
fn rules(
    bundle: &Bundle,
    state: &dyn StateReader,
    call: &ChaincodeCall,
) -> Result<ChaincodeRules, AnalysisError> {
    let failed = |error: &dyn std::error::Error| AnalysisError::Policy {
        reason: crate::channel::report(error),
    };
    if call.name == lifecycle::NAMESPACE {
        let policy = ApplicationPolicy::ChannelReference(LIFECYCLE_POLICY.to_owned());
        let policy = signature_policy(bundle, &call.name, &policy)?;
        let collections = implicit_collections(bundle, call)?;
        return Ok(ChaincodeRules { sequence: 1, policy, collections });
    }
    let definition = lifecycle::definition(state, &call.name).map_err(|error| failed(&error))?;
    let definition = definition.ok_or_else(|| AnalysisError::NoChaincode {
        chaincode: call.name.clone(),
        channel: bundle.channel_id().to_string(),
    })?;
    let policy = definition.policy().map_err(|error| failed(&error))?;
    let policy = signature_policy(bundle, &call.name, &policy)?;
    let mut collections = implicit_collections(bundle, call)?;
    for collection in definition.parameters.static_collections() {
        let own = collection.endorsement_policy.clone().map(ApplicationPolicy::try_from);
        let own = own.transpose().map_err(|error| failed(&error))?;
        let own = own.map(|own| signature_policy(bundle, &collection.name, &own)).transpose()?;
        let members = collection.member_orgs_policy.clone().and_then(|policy| policy.payload);
        let members = members.map_or_else(Vec::new, |payload| {
            use weft_protos::peer::collection_policy_config::Payload;
            let Payload::SignaturePolicy(policy) = payload;
            policy.identities
        });
        collections.insert(collection.name.clone(), CollectionRules { members, policy: own });
    }
    Ok(ChaincodeRules { sequence: definition.sequence, policy, collections })
}

/// The implicit collections among those that are called.
fn implicit_collections(
    bundle: &Bundle,
    call: &ChaincodeCall,
) -> Result<BTreeMap<String, CollectionRules>, AnalysisError> {
    let mut collections = BTreeMap::new();
    for name in &call.collection_names {
        let Some(msp_id) = name.strip_prefix(lifecycle::IMPLICIT_COLLECTION) else { continue };
        let members = vec![weft_msp::Principal::role(msp_id, weft_msp::PrincipalRole::Member)];
        let policy = org_policy(bundle, msp_id)?;
        collections.insert(name.clone(), CollectionRules { members, policy: Some(policy) });
    }
    Ok(collections)
}

fn org_policy(bundle: &Bundle, msp_id: &str) -> Result<SignaturePolicyEnvelope, AnalysisError> {
    let org = MspId::new(msp_id).ok().and_then(|id| bundle.application()?.org_of(&id));
    let org = org.ok_or_else(|| AnalysisError::Policy {
        reason: format!("no organization {msp_id} on the channel"),
    })?;
    let path = format!("/Channel/Application/{}/{ORG_POLICY}", org.org.name);
    signature_policy(bundle, msp_id, &ApplicationPolicy::ChannelReference(path))
}

fn signature_policy(
    bundle: &Bundle,
    name: &str,
    policy: &ApplicationPolicy,
) -> Result<SignaturePolicyEnvelope, AnalysisError> {
    let failed = |reason: String| AnalysisError::Policy { reason };
    let policy = policy.resolve(name, bundle.policies());
    let policy = policy.map_err(|error| failed(crate::channel::report(&error)))?;
    policy.to_envelope().map_err(|error| failed(crate::channel::report(&error)))
}
