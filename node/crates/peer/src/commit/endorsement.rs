//! Whether the right ones endorsed what a transaction writes.
//!
//! Each namespace that a transaction writes to is judged by itself, and the invoked chaincode's in
//! any case (Fabric: core/committer/txvalidator/v20/plugindispatcher, core/common/validation/
//! statebased):
//!
//! - the namespace must be a chaincode with a definition, or `_lifecycle` itself, whose writes fall
//!   under `/Channel/Application/LifecycleEndorsement`;
//! - a key with a policy of its own (metadata `VALIDATION_PARAMETER`) is judged by that policy;
//! - a key of a collection with a policy of its own, by that; an organization's implicit collection,
//!   by the organization's policy `Endorsement`;
//! - all other keys, and a transaction that writes nothing, by the chaincode's policy.
//!
//! Policies are those before the block. A transaction that writes a key whose own policy an earlier
//! transaction of the same block has set is not valid, as its endorsers cannot have known the
//! policy; "earlier" means one that passed these checks in the same namespace, whatever becomes of
//! it afterwards.
//!
//! # Where this differs from Fabric
//!
//! - Namespaces are judged in the order of their names; Fabric's order is random, so that the code
//!   of a transaction with two faults can differ between its own peers.
//! - These are the rules for application capability V2_0 and later, and are used below it too.
//! - A key policy that cannot be read fails the transaction; Fabric's peer stops the channel.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_ledger::rwset::NsRwSet;
use weft_ledger::state::{StateError, StateReader, metadata};
use weft_msp::policy::Policy;
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::{Authenticated, ValidAt};
use weft_protos::common::SignaturePolicyEnvelope;
use weft_protos::ext::decode;
use weft_types::ValidationCode;

use super::transaction::Endorsed;

/// The namespace of chaincode definitions.
pub const LIFECYCLE: &str = "_lifecycle";
/// The policy of writes to [`LIFECYCLE`]. Fabric: core/chaincode/lifecycle.
const LIFECYCLE_POLICY: &str = "/Channel/Application/LifecycleEndorsement";
/// What the names of organizations' implicit collections begin with.
/// Fabric: core/chaincode/implicitcollection.
const IMPLICIT_COLLECTION: &str = "_implicit_org_";

/// What validation has to know of a chaincode's definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The encoded `protos.ApplicationPolicy` of the chaincode.
    pub policy: Bytes,
    /// The encoded policies of its collections by name; `None` for a collection without its own.
    pub collections: BTreeMap<String, Option<Bytes>>,
}

/// A definition cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The state cannot be read: the block cannot be validated.
    #[error("failed to read a chaincode definition")]
    State(#[source] StateError),
    /// The definition is not sound: whatever depends on it is not valid.
    #[error("failed to read the definition of chaincode {name}: {reason}")]
    Unsound {
        /// The chaincode.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where definitions are looked up.
pub trait Definitions: Send + Sync {
    /// The rules of a chaincode, as of `state`; `None` when it is not defined.
    ///
    /// # Errors
    /// [`RulesError`].
    fn rules(&self, state: &dyn StateReader, name: &str) -> Result<Option<Rules>, RulesError>;
}

/// A key: namespace, collection (empty for public keys), key or hash of the key.
type KeyName<'a> = (&'a str, &'a str, &'a [u8]);

/// Policies and definitions of one channel, worked out once. What depends on the configuration is
/// dropped when that changes, definitions when a block writes any.
pub struct RuleBook {
    definitions: Arc<dyn Definitions>,
    sequence: Option<u64>,
    policies: HashMap<Bytes, Option<Arc<Policy>>>,
    rules: HashMap<String, Option<Arc<Rules>>>,
}

/// Policies remembered at most; key-level policies can be as many as keys.
const MAX_POLICIES: usize = 4096;
/// Definitions remembered at most; anybody can invoke chaincodes that do not exist.
const MAX_RULES: usize = 4096;

impl RuleBook {
    /// An empty book.
    #[must_use]
    pub fn new(definitions: Arc<dyn Definitions>) -> Self {
        Self { definitions, sequence: None, policies: HashMap::new(), rules: HashMap::new() }
    }

    /// Drops what is remembered of definitions, as they may have changed.
    pub fn forget_definitions(&mut self) {
        self.rules.clear();
    }

    fn prepare(&mut self, bundle: &Bundle) {
        if self.sequence != Some(bundle.sequence()) {
            self.sequence = Some(bundle.sequence());
            self.policies.clear();
        }
        if self.policies.len() > MAX_POLICIES {
            self.policies.clear();
        }
        if self.rules.len() > MAX_RULES {
            self.rules.clear();
        }
    }

    fn rules(
        &mut self,
        state: &dyn StateReader,
        name: &str,
    ) -> Result<Option<Arc<Rules>>, StateError> {
        if let Some(known) = self.rules.get(name) {
            return Ok(known.clone());
        }
        let found = match self.definitions.rules(state, name) {
            Ok(found) => found.map(Arc::new),
            Err(RulesError::State(error)) => return Err(error),
            Err(unsound) => {
                tracing::warn!(error = %unsound, "chaincode definition cannot be used");
                None
            }
        };
        self.rules.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// The policy in an encoded `ApplicationPolicy`; `None` when it cannot be used.
    fn application_policy(&mut self, bundle: &Bundle, bytes: &Bytes) -> Option<Arc<Policy>> {
        let work_out = || {
            let policy = ApplicationPolicy::decode(bytes.clone()).ok()?;
            policy.resolve("endorsement policy", bundle.policies()).ok()
        };
        self.policies.entry(bytes.clone()).or_insert_with(work_out).clone()
    }

    /// The policy in an encoded `SignaturePolicyEnvelope`, as it stands in a key's metadata.
    fn key_policy(&mut self, bundle: &Bundle, bytes: &Bytes) -> Option<Arc<Policy>> {
        let work_out = || {
            let envelope: SignaturePolicyEnvelope = decode("key policy", bytes.clone()).ok()?;
            let msps = Arc::clone(bundle.msps());
            Policy::signature("key policy", &envelope, msps).ok().map(Arc::new)
        };
        // The same bytes can mean something else as an application policy.
        let key: Bytes = [b"key:".as_slice(), bytes].concat().into();
        self.policies.entry(key).or_insert_with(work_out).clone()
    }
}

/// The endorsement checks of one block's transactions, in their order.
pub struct BlockEndorsements<'a> {
    book: &'a mut RuleBook,
    bundle: &'a Bundle,
    state: &'a dyn StateReader,
    changed_policies: HashSet<(String, String, Bytes)>,
}

impl<'a> BlockEndorsements<'a> {
    /// Judges by the configuration and the state before the block.
    pub fn new(book: &'a mut RuleBook, bundle: &'a Bundle, state: &'a dyn StateReader) -> Self {
        book.prepare(bundle);
        Self { book, bundle, state, changed_policies: HashSet::new() }
    }

    /// The code of the block's next transaction, [`ValidationCode::Valid`] when it is endorsed.
    ///
    /// # Errors
    /// Fails when the state cannot be read: then nothing can be said of the block.
    pub fn check(&mut self, transaction: &Endorsed) -> Result<ValidationCode, StateError> {
        let parts = &transaction.rwset.namespaces;
        let mut written: BTreeMap<&str, Option<&NsRwSet>> = parts
            .iter()
            .filter(|p| p.has_writes())
            .map(|p| (p.namespace.as_str(), Some(p)))
            .collect();
        written
            .entry(&transaction.chaincode)
            .or_insert_with(|| transaction.rwset.namespace(&transaction.chaincode));
        for (namespace, part) in written {
            let code = self.check_namespace(namespace, part, &transaction.endorsers)?;
            if code != ValidationCode::Valid {
                return Ok(code);
            }
            if let Some(part) = part {
                self.note_changed_policies(part);
            }
        }
        Ok(ValidationCode::Valid)
    }

    fn check_namespace(
        &mut self,
        namespace: &str,
        part: Option<&NsRwSet>,
        endorsers: &[Authenticated],
    ) -> Result<ValidationCode, StateError> {
        let failed = ValidationCode::EndorsementPolicyFailure;
        let (policy, rules) = if namespace == LIFECYCLE {
            (self.lifecycle_policy(), None)
        } else {
            let Some(rules) = self.book.rules(self.state, namespace)? else {
                return Ok(ValidationCode::InvalidChaincode);
            };
            (self.book.application_policy(self.bundle, &rules.policy), Some(rules))
        };
        let mut judged = Judged { policy, rules, endorsers, done: BTreeSet::new(), any: false };
        for key in part.into_iter().flat_map(written_keys) {
            if !self.check_key(namespace, key, &mut judged)? {
                return Ok(failed);
            }
        }
        // Nobody may invoke a chaincode without its endorsement, even to write nothing.
        if !judged.any && !judged.by_chaincode() {
            return Ok(failed);
        }
        Ok(ValidationCode::Valid)
    }

    /// The policy of definitions; where the configuration has none, a member of more than half of
    /// the organizations (Fabric: core/chaincode/lifecycle/lifecycle.go).
    fn lifecycle_policy(&self) -> Option<Arc<Policy>> {
        if let Ok(policy) = self.bundle.policies().get(LIFECYCLE_POLICY) {
            return Some(Arc::clone(policy));
        }
        let orgs = &self.bundle.application()?.orgs;
        let members: Vec<_> =
            orgs.values().map(|org| format!("'{}.member'", org.org.msp_id)).collect();
        let text = format!("OutOf({}, {})", members.len() / 2 + 1, members.join(", "));
        self.written_policy(&text)
    }

    fn written_policy(&self, text: &str) -> Option<Arc<Policy>> {
        let envelope = weft_msp::policy::dsl::parse(text).ok()?;
        let msps = Arc::clone(self.bundle.msps());
        Policy::signature(text, &envelope, msps).ok().map(Arc::new)
    }

    fn check_key(
        &mut self,
        namespace: &str,
        (collection, key): (&str, &[u8]),
        judged: &mut Judged<'_>,
    ) -> Result<bool, StateError> {
        if self.is_changed((namespace, collection, key)) {
            return Ok(false);
        }
        let Some(own) = self.own_policy((namespace, collection, key))? else {
            return Ok(self.check_collection(collection, judged));
        };
        let policy = self.book.key_policy(self.bundle, &own);
        judged.any = true;
        Ok(satisfied(policy.as_deref(), judged.endorsers))
    }

    fn check_collection(&mut self, collection: &str, judged: &mut Judged<'_>) -> bool {
        if collection.is_empty() {
            return judged.by_chaincode();
        }
        if judged.done.contains(collection) {
            return true;
        }
        let policy = match self.collection_policy(collection, judged.rules.as_deref()) {
            CollectionPolicy::Unknown => return false,
            CollectionPolicy::Chaincode => return judged.by_chaincode(),
            CollectionPolicy::Own(policy) => policy,
        };
        judged.any = satisfied(policy.as_deref(), judged.endorsers);
        if judged.any {
            judged.done.insert(collection.to_owned());
        }
        judged.any
    }

    fn collection_policy(&mut self, collection: &str, rules: Option<&Rules>) -> CollectionPolicy {
        if let Some(msp_id) = collection.strip_prefix(IMPLICIT_COLLECTION) {
            return self.organization_policy(msp_id);
        }
        match rules.map(|rules| rules.collections.get(collection)) {
            // `_lifecycle` has no collections but the implicit ones.
            None | Some(None) => CollectionPolicy::Unknown,
            Some(Some(None)) => CollectionPolicy::Chaincode,
            Some(Some(Some(bytes))) => {
                CollectionPolicy::Own(self.book.application_policy(self.bundle, bytes))
            }
        }
    }

    /// An organization's policy `Endorsement`, or else one signature of any of its members.
    fn organization_policy(&self, msp_id: &str) -> CollectionPolicy {
        let orgs = self.bundle.application().map(|application| &application.orgs);
        let mut orgs = orgs.into_iter().flatten();
        let Some((name, _)) = orgs.find(|(_, org)| org.org.msp_id.as_str() == msp_id) else {
            return CollectionPolicy::Unknown;
        };
        let path = format!("/Channel/Application/{name}/Endorsement");
        if let Ok(policy) = self.bundle.policies().get(&path) {
            return CollectionPolicy::Own(Some(Arc::clone(policy)));
        }
        CollectionPolicy::Own(self.written_policy(&format!("OR('{msp_id}.member')")))
    }

    /// The policy in a key's metadata as of the state before the block.
    fn own_policy(&self, (ns, collection, key): KeyName<'_>) -> Result<Option<Bytes>, StateError> {
        let found = if collection.is_empty() {
            // Public keys come from UTF-8 strings.
            let key = std::str::from_utf8(key).unwrap_or_default();
            self.state.get(ns, key)?
        } else {
            self.state.get_hash(ns, collection, key)?
        };
        let Some(found) = found else { return Ok(None) };
        let own = metadata::validation_parameter(&found.metadata)
            .map_err(|_| StateError::Corrupt { namespace: ns.to_owned(), reason: "metadata" })?;
        Ok(own.filter(|own| !own.is_empty()))
    }

    fn is_changed(&self, (namespace, collection, key): KeyName<'_>) -> bool {
        if self.changed_policies.is_empty() {
            return false;
        }
        let key = Bytes::copy_from_slice(key);
        self.changed_policies.contains(&(namespace.to_owned(), collection.to_owned(), key))
    }

    fn note_changed_policies(&mut self, part: &NsRwSet) {
        let namespace = &part.namespace;
        for write in &part.public.metadata_writes {
            let key = Bytes::copy_from_slice(write.key.as_bytes());
            self.changed_policies.insert((namespace.clone(), String::new(), key));
        }
        for collection in &part.collections {
            for write in &collection.hashed.metadata_writes {
                let name =
                    (namespace.clone(), collection.collection.clone(), write.key_hash.clone());
                self.changed_policies.insert(name);
            }
        }
    }
}

/// How a collection's keys are judged.
enum CollectionPolicy {
    /// There is no such collection.
    Unknown,
    /// By the chaincode's policy.
    Chaincode,
    /// By its own; `None` when that cannot be used.
    Own(Option<Arc<Policy>>),
}

/// What was judged already of one transaction in one namespace.
struct Judged<'a> {
    policy: Option<Arc<Policy>>,
    rules: Option<Arc<Rules>>,
    endorsers: &'a [Authenticated],
    /// Collections whose policy is satisfied; the empty name is the chaincode itself.
    done: BTreeSet<String>,
    /// Whether any policy was satisfied.
    any: bool,
}

impl Judged<'_> {
    fn by_chaincode(&mut self) -> bool {
        if self.done.contains("") {
            return true;
        }
        let holds = satisfied(self.policy.as_deref(), self.endorsers);
        if holds {
            self.done.insert(String::new());
            self.any = true;
        }
        holds
    }
}

/// The keys that are written, or whose metadata is: public ones, then those of collections, in
/// Fabric's order (core/common/validation/statebased).
fn written_keys(part: &NsRwSet) -> impl Iterator<Item = (&str, &[u8])> {
    let public = part.public.writes.iter().map(|write| ("", write.key.as_bytes()));
    let public_metadata = part.public.metadata_writes.iter().map(|w| ("", w.key.as_bytes()));
    let hashed = part.collections.iter().flat_map(|of| {
        of.hashed.hashed_writes.iter().map(|w| (of.collection.as_str(), w.key_hash.as_ref()))
    });
    let hashed_metadata = part.collections.iter().flat_map(|of| {
        of.hashed.metadata_writes.iter().map(|w| (of.collection.as_str(), w.key_hash.as_ref()))
    });
    public.chain(public_metadata).chain(hashed).chain(hashed_metadata)
}

fn satisfied(policy: Option<&Policy>, endorsers: &[Authenticated]) -> bool {
    policy.is_some_and(|policy| policy.evaluate_authenticated(endorsers, ValidAt::Issuance).is_ok())
}
