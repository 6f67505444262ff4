//! The two authorities of a holder, made exactly once, and its MSP without keys.
//!
//! A CA Secret is created and never written again. What says that it was made is the fingerprint
//! in the status and, should a status be lost, the one beside the published MSP.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{HolderError, HolderPlan, Recorded};
use crate::cluster::apply::Created;
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::stores::find;
use crate::cluster::events::Note;
use crate::cluster::identity::{
    Authorities, Authority, Decision, Held, Origin, SecretData, bundle,
};
use crate::cluster::names::{annotation, component, key};
use crate::cluster::resources::labels;
use crate::pki::RootUse;

/// The authorities of a holder, ready to issue.
#[derive(Debug)]
pub struct Ready {
    /// The authorities.
    pub authorities: Authorities,
    /// What is to stand in the status.
    pub recorded: Recorded,
    /// What was done.
    pub notes: Vec<Note>,
}

/// Reads the authorities, makes those that were never made, and publishes the MSP.
///
/// # Errors
/// [`HolderError::Authority`] for one that is gone, altered or cannot be used: then nothing may
/// be issued or rolled out.
pub async fn ensure(context: &Context, plan: &HolderPlan) -> Result<Ready, HolderError> {
    let published = find(&context.stores.config_maps, &plan.namespace, &plan.holder.msp());
    let published = published.as_deref();
    // An API server before 1.25 does not refuse the change itself.
    let made = published.and_then(|map| map.data.as_ref()?.get(key::MSP_ID).cloned());
    if let Some(was) = made.filter(|was| was != plan.msp_id.as_str()) {
        return Err(HolderError::MspId { was, wanted: plan.msp_id.clone() });
    }
    let mut notes = Vec::new();
    let identity = one(context, plan, RootUse::Identity, published, &mut notes).await?;
    let tls = one(context, plan, RootUse::Tls, published, &mut notes).await?;
    let recorded =
        Recorded { identity: Some(identity.fingerprint()), tls: Some(tls.fingerprint()) };
    let authorities = Authorities::new(plan.msp_id.clone(), identity, tls, plan.certificates)
        .map_err(HolderError::Identity)?;
    publish(context, plan, &authorities, &recorded).await?;
    Ok(Ready { authorities, recorded, notes })
}

async fn one(
    context: &Context,
    plan: &HolderPlan,
    use_: RootUse,
    published: Option<&ConfigMap>,
    notes: &mut Vec<Note>,
) -> Result<Authority, HolderError> {
    let own = match use_ {
        RootUse::Identity => &plan.ca.identity_secret_ref,
        RootUse::Tls => &plan.ca.tls_secret_ref,
    };
    let managed = plan.holder.authority(use_);
    let (secret, origin) = match own {
        Some(reference) => (reference.name.as_str(), Origin::User),
        None => (managed.as_str(), Origin::Managed),
    };
    let recorded = recorded(plan, use_, published);
    let bundle = published.and_then(|one| one.data.as_ref());
    let published = bundle.map(|data| bundle::published(data, use_)).unwrap_or_default();
    let data = read(context, plan, secret).await?;
    let held = Held {
        secret,
        origin,
        data: data.as_ref(),
        recorded: recorded.as_deref(),
        published: &published,
    };
    match crate::cluster::identity::authority::decide(&held, context.now())
        .map_err(HolderError::Authority)?
    {
        Decision::Use(authority) | Decision::Adopt(authority) => Ok(authority),
        Decision::Renewed(authority) => {
            let text = format!("the {} authority of {} was renewed", use_.label(), plan.msp_id);
            notes.push(Note::normal("AuthorityRenewed", text));
            Ok(authority)
        }
        Decision::Make => make(context, plan, use_, secret, notes).await,
    }
}

/// The cache may not have seen yet what was made a moment ago: nothing is taken to be missing
/// before the API server says so.
async fn read(
    context: &Context,
    plan: &HolderPlan,
    name: &str,
) -> Result<Option<SecretData>, HolderError> {
    let seen = find(&context.stores.secrets, &plan.namespace, name);
    let secret = match seen {
        Some(secret) => Some(Secret::clone(&secret)),
        None => context.applier.get::<Secret>(&plan.namespace, name).await?,
    };
    Ok(secret.and_then(|secret| secret.data))
}

async fn make(
    context: &Context,
    plan: &HolderPlan,
    use_: RootUse,
    name: &str,
    notes: &mut Vec<Note>,
) -> Result<Authority, HolderError> {
    let now = context.now();
    let made = Authority::make(&plan.msp_id, use_, &plan.certificates, now)
        .map_err(HolderError::Authority)?;
    let secret = Secret {
        // No owner: it stays when its organization goes, unless the deletion policy says other.
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(plan.namespace.clone()),
            labels: Some(labels::for_holder(&plan.holder, &plan.network, component::AUTHORITY)),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(made.data),
        ..Secret::default()
    };
    match context.applier.create(&secret).await? {
        Created::New(_) => {
            let text = format!("made the {} authority of {}", use_.label(), plan.msp_id);
            notes.push(Note::normal("AuthorityMade", text));
            Ok(made.authority)
        }
        // Somebody was faster: theirs is the one.
        Created::Existing(existing) => {
            Authority::read(name, &existing.data.unwrap_or_default(), now)
                .map_err(HolderError::Authority)
        }
    }
}

fn annotation_of(use_: RootUse) -> &'static str {
    match use_ {
        RootUse::Identity => annotation::CA_FINGERPRINT,
        RootUse::Tls => annotation::TLS_CA_FINGERPRINT,
    }
}

fn recorded(plan: &HolderPlan, use_: RootUse, published: Option<&ConfigMap>) -> Option<String> {
    let status = match use_ {
        RootUse::Identity => plan.recorded.identity.clone(),
        RootUse::Tls => plan.recorded.tls.clone(),
    };
    let beside = || {
        let annotations = published?.metadata.annotations.as_ref()?;
        annotations.get(annotation_of(use_)).cloned()
    };
    status.or_else(beside)
}

async fn publish(
    context: &Context,
    plan: &HolderPlan,
    authorities: &Authorities,
    recorded: &Recorded,
) -> Result<(), HolderError> {
    let fingerprints = [(RootUse::Identity, &recorded.identity), (RootUse::Tls, &recorded.tls)];
    let annotations: BTreeMap<String, String> = fingerprints
        .into_iter()
        .filter_map(|(use_, value)| Some((annotation_of(use_).to_owned(), value.clone()?)))
        .collect();
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(plan.holder.msp()),
            namespace: Some(plan.namespace.clone()),
            labels: Some(labels::for_holder(&plan.holder, &plan.network, component::MSP)),
            annotations: Some(annotations),
            owner_references: Some(vec![plan.owner.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(bundle::bundle(authorities)),
        ..ConfigMap::default()
    };
    let live = find(&context.stores.config_maps, &plan.namespace, &plan.holder.msp());
    context.applier.apply(&map, live.as_deref()).await?;
    Ok(())
}
