//! What a channel agreed on for a collection of private data.

use std::sync::Arc;

use weft_config::Bundle;
use weft_ledger::state::StateReader;
use weft_msp::policy::any_of;
use weft_msp::{Authenticated, MspManager, Policy, Principal, PrincipalRole, ValidAt};
use weft_protos::common::SignaturePolicyEnvelope;
use weft_protos::peer::StaticCollectionConfig;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_types::MspId;

use crate::lifecycle::{self, DefinitionError, definition};

/// A collection of a chaincode, whether it is defined or an organization's implicit one.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Its name within the chaincode.
    pub name: String,
    /// Who are its members: one signature that satisfies it is enough.
    pub policy: SignaturePolicyEnvelope,
    /// Other peers that must have the values before an endorsement succeeds.
    pub required_peers: usize,
    /// Other peers that the values are sent to at endorsement, at most.
    pub maximum_peers: usize,
    /// Blocks after which the values are dropped; 0 keeps them.
    pub block_to_live: u64,
    /// Whether only members may read.
    pub member_only_read: bool,
    /// Whether only members may write.
    pub member_only_write: bool,
}

impl Collection {
    /// As a definition has it. Without a policy it has no members.
    #[must_use]
    pub fn defined(config: &StaticCollectionConfig) -> Self {
        let policy = config.member_orgs_policy.as_ref().and_then(|policy| policy.payload.clone());
        let policy = policy.map(|Members::SignaturePolicy(policy)| policy).unwrap_or_default();
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        Self {
            name: config.name.clone(),
            policy,
            required_peers: count(config.required_peer_count),
            maximum_peers: count(config.maximum_peer_count),
            block_to_live: config.block_to_live,
            member_only_read: config.member_only_read,
            member_only_write: config.member_only_write,
        }
    }

    /// The collection that every chaincode has for every organization of the channel
    /// (Fabric: core/chaincode/implicitcollection). Its values go to one more peer where there is
    /// one, as Fabric's peers do by default.
    #[must_use]
    pub fn implicit(name: &str, org: &MspId) -> Self {
        Self {
            name: name.to_owned(),
            policy: any_of(vec![Principal::role(org.as_str(), PrincipalRole::Member)]),
            required_peers: 0,
            maximum_peers: 1,
            block_to_live: 0,
            member_only_read: false,
            member_only_write: false,
        }
    }

    /// Whether somebody is a member: a client that reads or writes, a peer that holds the values or
    /// is given them. `msps` are those of the channel.
    ///
    /// The policy is evaluated as it stands, with its roles: `Org1MSP.admin` makes no peer and no
    /// client of Org1 a member, and a collection that names nothing else is held by nobody (Fabric:
    /// core/common/privdata/simplecollection.go, `AccessFilter`). Whether a certificate has expired
    /// is for where it was authenticated, so that a peer does not stop to hold what is its own.
    #[must_use]
    pub fn admits(&self, msps: &Arc<MspManager>, who: &Authenticated) -> bool {
        let policy = Policy::signature(&self.name, &self.policy, Arc::clone(msps));
        policy.is_ok_and(|policy| {
            policy.evaluate_authenticated(std::slice::from_ref(who), ValidAt::Issuance).is_ok()
        })
    }
}

/// The collection `name` of `chaincode` as of `state`; `None` where there is none.
///
/// # Errors
/// Fails where the definition cannot be read.
pub fn find(
    state: &dyn StateReader,
    bundle: &Bundle,
    chaincode: &str,
    name: &str,
) -> Result<Option<Collection>, DefinitionError> {
    if let Some(msp_id) = name.strip_prefix(lifecycle::IMPLICIT_COLLECTION) {
        let org = MspId::new(msp_id).ok();
        let is_member =
            |org: &MspId| bundle.application().is_some_and(|all| all.org_of(org).is_some());
        return Ok(org.filter(is_member).map(|org| Collection::implicit(name, &org)));
    }
    let definition = definition(state, chaincode)?;
    Ok(definition.and_then(|found| found.collection(name).map(Collection::defined)))
}
