//! Collections of private data: what a manifest says of them, and the rules of a channel for them
//! (Fabric: core/chaincode/lifecycle/scc.go, validateCollectionConfigs).
//!
//! A peer refuses a definition that breaks one of these rules. Here the same rules name the object
//! and the field, before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use weft_msp::policy::{any_of, dsl};
use weft_msp::{Principal, PrincipalRole};
use weft_protos::common::signature_policy::Type;
use weft_protos::common::{SignaturePolicy, SignaturePolicyEnvelope};

use super::{Checker, Endorsement, ObjectId};
use crate::api::{self, CollectionSpec};

/// A collection of private data.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Its name within the contract.
    pub name: String,
    /// Whose peers hold the values: an `OR` of members of the channel.
    pub members: SignaturePolicyEnvelope,
    /// Other peers that must have the values before an endorsement succeeds.
    pub required_peers: i32,
    /// Other peers that an endorser sends the values to, at most.
    pub maximum_peers: i32,
    /// Blocks after which the values are dropped; 0 keeps them.
    pub block_to_live: u64,
    /// Whether only clients of members may read.
    pub member_only_read: bool,
    /// Whether only clients of members may write.
    pub member_only_write: bool,
    /// Who must endorse what writes into it, where that is not the contract's policy.
    pub endorsement: Option<Endorsement>,
}

/// The members of a channel, as collections name them.
pub(super) struct ChannelMembers<'a> {
    channel: &'a str,
    /// MSP id by name of the Organization.
    msp_ids: BTreeMap<String, &'a str>,
}

impl<'a> ChannelMembers<'a> {
    /// Those of `organizations` that the channel names.
    pub(super) fn new(
        channel: &'a str,
        named: &[String],
        organizations: &[&'a api::Organization],
    ) -> ChannelMembers<'a> {
        let members = organizations.iter().filter_map(|one| {
            let name = one.metadata.name.clone()?;
            named.contains(&name).then_some((name, one.spec.msp_id.as_str()))
        });
        ChannelMembers { channel, msp_ids: members.collect() }
    }

    fn has(&self, msp_id: &str) -> bool {
        self.msp_ids.values().any(|one| *one == msp_id)
    }
}

impl Checker {
    pub(super) fn collections(
        &mut self,
        object: &ObjectId,
        members: &ChannelMembers<'_>,
        specs: &[CollectionSpec],
    ) -> Option<Vec<Collection>> {
        let mut names = BTreeSet::new();
        let mut all = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let field = format!("spec.collections[{index}]");
            if !is_name(&spec.name) {
                let message = format!(
                    "{:?} must be letters, digits, '-' and '_', and begin with no '_'",
                    spec.name
                );
                self.problem(object, format!("{field}.name"), message);
            } else if !names.insert(&spec.name) {
                let message = format!("{:?} stands there twice", spec.name);
                self.problem(object, format!("{field}.name"), message);
            }
            all.push(self.collection(object, members, &field, spec));
        }
        all.into_iter().collect()
    }

    fn collection(
        &mut self,
        object: &ObjectId,
        members: &ChannelMembers<'_>,
        field: &str,
        spec: &CollectionSpec,
    ) -> Option<Collection> {
        let counts = self.counts(object, field, spec);
        let endorsement = match &spec.endorsement_policy {
            Some(text) => {
                let parsed = self.policy(object, &format!("{field}.endorsementPolicy"), text);
                parsed.map(Some)
            }
            None => Some(None),
        };
        let members = match (&spec.organizations, &spec.policy) {
            (Some(names), None) => self.named(object, members, field, names),
            (None, Some(text)) => self.written(object, members, field, text),
            _ => {
                self.problem(object, field, "set exactly one of organizations and policy");
                None
            }
        }?;
        let (required_peers, maximum) = counts?;
        let others = i32::try_from(organizations(&members).len().saturating_sub(1)).ok()?;
        Some(Collection {
            name: spec.name.clone(),
            members,
            required_peers,
            maximum_peers: maximum.unwrap_or_else(|| others.max(1).max(required_peers)),
            block_to_live: spec.block_to_live,
            member_only_read: spec.member_only_read,
            member_only_write: spec.member_only_write,
            endorsement: endorsement?,
        })
    }

    /// Peers that must, and peers that may get the values.
    fn counts(
        &mut self,
        object: &ObjectId,
        field: &str,
        spec: &CollectionSpec,
    ) -> Option<(i32, Option<i32>)> {
        let required_field = format!("{field}.requiredPeerCount");
        let required =
            self.take(object, &required_field, i32::try_from(spec.required_peer_count))?;
        let field = format!("{field}.maxPeerCount");
        let Some(maximum) = spec.max_peer_count else { return Some((required, None)) };
        let maximum = self.take(object, &field, i32::try_from(maximum))?;
        if maximum < required {
            let message = format!("must not be less than requiredPeerCount ({required})");
            self.problem(object, field, message);
        }
        Some((required, Some(maximum)))
    }

    /// Members by the names of their objects.
    fn named(
        &mut self,
        object: &ObjectId,
        members: &ChannelMembers<'_>,
        field: &str,
        names: &[String],
    ) -> Option<SignaturePolicyEnvelope> {
        if names.is_empty() {
            let message = "a collection needs at least one organization";
            self.problem(object, format!("{field}.organizations"), message);
            return None;
        }
        // In order, so that the same members make the same definition however they are listed.
        let mut msp_ids = BTreeSet::new();
        let mut complete = true;
        for (index, name) in names.iter().enumerate() {
            let field = format!("{field}.organizations[{index}]");
            match members.msp_ids.get(name) {
                None => {
                    let message = format!("{name:?} is no member of Channel {:?}", members.channel);
                    self.waits(object, field, message);
                    complete = false;
                }
                Some(msp_id) if !msp_ids.insert(*msp_id) => {
                    self.problem(object, field, format!("{name:?} stands there twice"));
                }
                Some(_) => {}
            }
        }
        complete.then(|| any_member(&msp_ids))
    }

    /// Members by policy text.
    fn written(
        &mut self,
        object: &ObjectId,
        members: &ChannelMembers<'_>,
        field: &str,
        text: &str,
    ) -> Option<SignaturePolicyEnvelope> {
        let field = format!("{field}.policy");
        let policy = self.take(object, &field, dsl::parse(text))?;
        if policy.rule.as_ref().is_none_or(|rule| !is_or(rule)) {
            self.problem(object, &field, "must be nothing but an OR of the channel's members");
            return None;
        }
        let named = organizations(&policy);
        let strangers: Vec<&str> =
            named.iter().map(String::as_str).filter(|one| !members.has(one)).collect();
        if !strangers.is_empty() {
            let message = format!(
                "{} is not the MSP id of a member of Channel {:?}",
                strangers.join(", "),
                members.channel
            );
            self.waits(object, &field, message);
            return None;
        }
        Some(policy)
    }
}

/// Letters, digits, `-` and `_`; the first is not `_`, which is for implicit collections.
fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && !name.starts_with('_') && name.bytes().all(allowed)
}

/// Whether one of those named is enough, whoever it is. Parsed text is of bounded depth.
fn is_or(rule: &SignaturePolicy) -> bool {
    match &rule.r#type {
        Some(Type::NOutOf(rules)) => rules.n == 1 && rules.rules.iter().all(is_or),
        Some(Type::SignedBy(_)) => true,
        None => false,
    }
}

/// MSP ids that a policy names.
fn organizations(policy: &SignaturePolicyEnvelope) -> BTreeSet<String> {
    let principals = policy.identities.iter().filter_map(|one| Principal::decode(one).ok());
    principals.filter_map(|principal| principal.msp_id().map(str::to_owned)).collect()
}

/// `OR('A.member', 'B.member', …)`.
fn any_member(msp_ids: &BTreeSet<&str>) -> SignaturePolicyEnvelope {
    any_of(msp_ids.iter().map(|id| Principal::role(id, PrincipalRole::Member)).collect())
}

#[cfg(test)]
#[path = "collections_tests.rs"]
mod tests;
