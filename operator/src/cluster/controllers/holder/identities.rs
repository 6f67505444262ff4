//! The identities of a holder's users and nodes, and the certificates of contracts that register
//! with it: issued when missing, renewed in time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_package::PackageId;
use weft_types::Timestamp;

use super::{Contract, HolderError, HolderPlan};
use crate::cluster::apply::{Created, Replaced};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::stores::find;
use crate::cluster::events::Note;
use crate::cluster::identity::{Authorities, Ensured, Hold, Issued, SecretData};
use crate::cluster::names::key;
use crate::cluster::resources::labels::{self, Labels};
use crate::cluster::topology::NodeKind;
use crate::pki::{self, Leaf, RootUse};

/// The identities of a holder.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// When the first certificate ends.
    pub soonest: Option<Timestamp>,
    /// When the next renewal is due.
    pub renew_at: Option<Timestamp>,
    /// What was issued.
    pub notes: Vec<Note>,
    /// Nodes whose TLS certificate is due and waits for its turn.
    pub held: Vec<String>,
}

/// Which nodes may renew their TLS certificate now.
#[derive(Clone, Debug)]
pub enum Turn {
    /// All of them.
    Everybody,
    /// One: the first that is due, when `free`; otherwise nobody. An ordering service's channels
    /// pin these certificates, and learn of one new certificate at a time.
    OneAtATime {
        /// Whether every channel knows the certificates that are in use.
        free: bool,
    },
}

/// Issues what is missing or due.
///
/// # Errors
/// [`HolderError`] naming the holder of the certificate, or the Secret.
pub async fn ensure(
    context: &Context,
    plan: &HolderPlan,
    authorities: &Authorities,
    turn: Turn,
) -> Result<Identities, HolderError> {
    let mut found = Identities::default();
    for user in &plan.users {
        let request = Request {
            name: plan.holder.user(&user.name),
            labels: labels::for_user(&plan.holder, &plan.network, &user.name),
            wanted: Wanted::Identity(pki::user_leaves(
                &user.name,
                user.role.into(),
                &plan.holder.name(),
            )),
            owned: true,
        };
        request.ensure(context, plan, authorities, Hold::Nothing, &mut found).await?;
    }
    let mut turn = turn;
    for node in &plan.nodes {
        let request = Request {
            name: node.identity(),
            labels: labels::for_node(node),
            wanted: Wanted::Identity(node.leaves()),
            owned: node.kind == NodeKind::Peer,
        };
        let hold = match turn {
            Turn::Everybody | Turn::OneAtATime { free: true } => Hold::Nothing,
            Turn::OneAtATime { free: false } => Hold::Tls,
        };
        let renewed = request.ensure(context, plan, authorities, hold, &mut found).await?;
        if renewed && let Turn::OneAtATime { free } = &mut turn {
            *free = false;
        }
    }
    for contract in &plan.contracts {
        let Some(request) = Request::of_contract(plan, contract) else { continue };
        request.ensure(context, plan, authorities, Hold::Nothing, &mut found).await?;
    }
    Ok(found)
}

/// What a Secret should hold.
enum Wanted {
    /// Of a node or user: the leaves for signing and for TLS.
    Identity([Leaf; 2]),
    /// Of a contract that registers: the leaf for TLS, which is for this package.
    Contract(Leaf, PackageId),
}

impl Wanted {
    fn ensure(
        &self,
        authorities: &Authorities,
        data: Option<&SecretData>,
        hold: Hold,
        now: Timestamp,
    ) -> Result<Ensured, HolderError> {
        let ensured = match self {
            Self::Identity(leaves) => authorities.ensure(leaves, data, hold, now),
            Self::Contract(leaf, package) => authorities.ensure_contract(leaf, package, data, now),
        };
        ensured.map_err(HolderError::Identity)
    }

    /// The common name of its certificates.
    fn holder(&self) -> &str {
        match self {
            Self::Identity([leaf, _]) | Self::Contract(leaf, _) => &leaf.common_name,
        }
    }
}

/// Certificates that somebody should have.
struct Request {
    name: String,
    labels: Labels,
    wanted: Wanted,
    /// Whether it goes with the object that it is made for. Those of orderers stay, as their
    /// ledgers do: channels pin their keys, and without them no ordering service comes back.
    owned: bool,
}

impl Request {
    /// Nothing as long as the package is not known.
    fn of_contract(plan: &HolderPlan, contract: &Contract) -> Option<Request> {
        let Contract { chaincode, channel, package } = contract;
        let package = package.clone()?;
        let leaf = pki::contract_leaf(chaincode, &package, &plan.holder.name());
        Some(Request {
            name: plan.holder.contract(chaincode),
            labels: labels::for_contract(&plan.holder, &plan.network, channel, chaincode),
            wanted: Wanted::Contract(leaf, package),
            owned: true,
        })
    }

    /// Returns whether a TLS certificate took the place of another one.
    async fn ensure(
        &self,
        context: &Context,
        plan: &HolderPlan,
        authorities: &Authorities,
        hold: Hold,
        found: &mut Identities,
    ) -> Result<bool, HolderError> {
        let seen = find(&context.stores.secrets, &plan.namespace, &self.name);
        let data = seen.as_deref().and_then(|secret| secret.data.as_ref());
        let hold = relax(hold, data, authorities, context.now());
        let issue =
            |data: Option<&SecretData>| self.wanted.ensure(authorities, data, hold, context.now());
        let mut ensured = issue(data)?;
        if ensured.data.is_some() {
            // The cache may lag behind what was issued a moment ago.
            let live = context.applier.get::<Secret>(&plan.namespace, &self.name).await?;
            ensured = issue(live.as_ref().and_then(|secret| secret.data.as_ref()))?;
            self.write(context, plan, live, &mut ensured).await?;
        }
        let renewed = ensured
            .issued
            .iter()
            .any(|one| one.which == RootUse::Tls && one.reason != pki::Reason::Missing);
        self.record(context, plan, ensured, found);
        Ok(renewed)
    }

    async fn write(
        &self,
        context: &Context,
        plan: &HolderPlan,
        live: Option<Secret>,
        ensured: &mut Ensured,
    ) -> Result<(), HolderError> {
        let Some(data) = ensured.data.take() else { return Ok(()) };
        let mut secret = live.clone().unwrap_or_default();
        secret.metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(plan.namespace.clone()),
            labels: Some(self.labels.clone()),
            owner_references: self.owned.then(|| vec![plan.owner.clone()]),
            ..secret.metadata
        };
        secret.data = Some(data);
        let unchanged = match live {
            // Only over what was just read: two writers never mix a key with another's
            // certificate.
            Some(live) => {
                matches!(context.applier.replace(&live, &secret).await?, Replaced::Conflict)
            }
            None => matches!(context.applier.create(&secret).await?, Created::Existing(_)),
        };
        if unchanged {
            // Somebody else wrote it: theirs is looked at the next time.
            ensured.issued.clear();
        }
        Ok(())
    }

    fn record(
        &self,
        context: &Context,
        plan: &HolderPlan,
        ensured: Ensured,
        found: &mut Identities,
    ) {
        let soonest = ensured.expires.iter().map(|(_, at)| *at).min();
        found.soonest = found.soonest.into_iter().chain(soonest).min();
        found.renew_at = found.renew_at.into_iter().chain(ensured.renew_at).min();
        let note = |one: &Issued| match one.reason {
            pki::Reason::Missing => Note::normal("CertificateIssued", one.to_string()),
            _ => Note::normal("CertificateRenewed", one.to_string()),
        };
        found.notes.extend(ensured.issued.iter().map(note));
        if ensured.held.is_some() {
            found.held.push(self.wanted.holder().to_owned());
        }
        for (use_, expires) in ensured.expires {
            let which = match use_ {
                RootUse::Identity => "signing",
                RootUse::Tls => "tls",
            };
            context.metrics.certificate(&plan.namespace, &self.name, which, expires);
        }
    }
}

/// A certificate that is about to end does not wait for its turn any longer: in the last third
/// of the time that is left for its renewal, having it is worth more than order.
fn relax(hold: Hold, data: Option<&SecretData>, authorities: &Authorities, now: Timestamp) -> Hold {
    let pem = data.and_then(|data| data.get(key::TLS_CERT));
    let pem = pem.and_then(|value| std::str::from_utf8(&value.0).ok());
    let ends = pem.and_then(|pem| weft_crypto::Certificate::from_pem(pem).ok());
    let last: Duration = authorities.certificates().renew_before / 3;
    match ends {
        Some(certificate) if now.saturating_add(last) >= certificate.not_after() => Hold::Nothing,
        _ => hold,
    }
}
