//! What a channel agreed on for a collection of private data.

use std::collections::BTreeSet;

use weft_config::Bundle;
use weft_ledger::state::StateReader;
use weft_msp::Principal;
use weft_protos::peer::StaticCollectionConfig;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_types::MspId;

use crate::lifecycle::{self, DefinitionError, definition};

/// A collection of a chaincode, whether it is defined or an organization's implicit one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name within the chaincode.
    pub name: String,
    /// The organizations whose peers hold the values.
    pub members: BTreeSet<MspId>,
    /// Other peers that must have the values before an endorsement succeeds.
    pub required_peers: usize,
    /// Other peers that the values are sent to at endorsement, at most.
    pub maximum_peers: usize,
    /// Blocks after which the values are dropped; 0 keeps them.
    pub block_to_live: u64,
    /// Whether only clients of members may read.
    pub member_only_read: bool,
    /// Whether only clients of members may write.
    pub member_only_write: bool,
}

impl Collection {
    /// As a definition has it. Members are the organizations that its policy names, as the rules
    /// for definitions allow nothing but an OR of them (see [`crate::lifecycle`]).
    #[must_use]
    pub fn defined(config: &StaticCollectionConfig) -> Self {
        let policy = config.member_orgs_policy.as_ref().and_then(|policy| policy.payload.as_ref());
        let named = policy.map(|Members::SignaturePolicy(policy)| policy.identities.as_slice());
        let members = named.unwrap_or_default().iter().filter_map(|principal| {
            match Principal::decode(principal).ok()? {
                Principal::Role { msp_id, .. }
                | Principal::OrganizationUnit { msp_id, .. }
                | Principal::Identity { msp_id, .. } => MspId::new(&msp_id).ok(),
                _ => None,
            }
        });
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        Self {
            name: config.name.clone(),
            members: members.collect(),
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
    pub fn implicit(name: &str, org: MspId) -> Self {
        Self {
            name: name.to_owned(),
            members: [org].into(),
            required_peers: 0,
            maximum_peers: 1,
            block_to_live: 0,
            member_only_read: false,
            member_only_write: false,
        }
    }

    /// Whether the peers of an organization hold the values.
    #[must_use]
    pub fn has(&self, org: &MspId) -> bool {
        self.members.contains(org)
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
        return Ok(org.filter(is_member).map(|org| Collection::implicit(name, org)));
    }
    let definition = definition(state, chaincode)?;
    Ok(definition.and_then(|found| found.collection(name).map(Collection::defined)))
}
