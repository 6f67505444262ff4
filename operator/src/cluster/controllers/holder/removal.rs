//! Nodes that are no longer wanted, and the end of a holder.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use kube::ResourceExt;

use super::{HolderError, HolderPlan};
use crate::api::DeletionPolicy;
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::stores::{in_group, select};
use crate::cluster::names::{self, Holder};
use crate::pki::RootUse;

/// The index in a node's name; `None` for a name that is not of this holder.
pub fn index_of(holder: &Holder, node: &str) -> Option<u32> {
    let digits = node.strip_prefix(&holder.group())?.strip_prefix('-')?;
    digits.parse().ok().filter(|index| holder.node(*index) == node)
}

/// Indexes of the nodes that exist, in order.
pub fn existing(context: &Context, namespace: &str, network: &str, holder: &Holder) -> Vec<u32> {
    let (organization, component) = match holder {
        Holder::Ordering(_) => (None, names::component::ORDERER),
        Holder::Organization(name) => (Some(name.as_str()), names::component::PEER),
    };
    let sets = select(&context.stores.stateful_sets, namespace, |set: &StatefulSet| {
        in_group(set, network, organization, component)
    });
    // The last object of a node that goes: a removal that was interrupted is found by it.
    let services = select(&context.stores.services, namespace, |service: &Service| {
        in_group(service, network, organization, component)
    });
    let names = sets.iter().map(|set| set.name_any());
    let names = names.chain(services.iter().map(|service| service.name_any()));
    let indexes: BTreeSet<u32> = names.filter_map(|name| index_of(holder, &name)).collect();
    indexes.into_iter().collect()
}

/// Removes a node's objects. Its volume stays, unless the deletion policy says other.
///
/// # Errors
/// [`HolderError::Apply`] naming the object.
pub async fn remove_node(
    context: &Context,
    plan: &HolderPlan,
    name: &str,
) -> Result<(), HolderError> {
    let applier = &context.applier;
    let namespace = &plan.namespace;
    applier.delete::<StatefulSet>(namespace, name).await?;
    applier.delete::<ConfigMap>(namespace, name).await?;
    applier.delete::<Secret>(namespace, &names::node_identity(name)).await?;
    if plan.deletion == DeletionPolicy::Delete {
        applier.delete::<PersistentVolumeClaim>(namespace, name).await?;
    }
    // Last: by it [`existing`] finds what is left when this is interrupted.
    applier.delete::<Service>(namespace, name).await?;
    Ok(())
}

/// Removes identities of users that are no longer wanted.
///
/// # Errors
/// [`HolderError::Apply`] naming the Secret.
pub async fn remove_users(context: &Context, plan: &HolderPlan) -> Result<(), HolderError> {
    let wanted = plan.users.iter().map(|user| plan.holder.user(&user.name)).collect();
    remove_secrets(context, plan, names::component::USER, &wanted).await
}

/// Removes certificates of contracts that are gone, or no longer register with its peers.
///
/// # Errors
/// [`HolderError::Apply`] naming the Secret.
pub async fn remove_contracts(context: &Context, plan: &HolderPlan) -> Result<(), HolderError> {
    let wanted = plan.contracts.iter().map(|one| plan.holder.contract(&one.chaincode)).collect();
    remove_secrets(context, plan, names::component::CONTRACT, &wanted).await
}

async fn remove_secrets(
    context: &Context,
    plan: &HolderPlan,
    component: &str,
    wanted: &BTreeSet<String>,
) -> Result<(), HolderError> {
    let organization = organization_of(&plan.holder);
    let secrets = select(&context.stores.secrets, &plan.namespace, |secret: &Secret| {
        in_group(secret, &plan.network, organization, component)
    });
    for secret in secrets.iter().filter(|secret| !wanted.contains(&secret.name_any())) {
        context.applier.delete::<Secret>(&plan.namespace, &secret.name_any()).await?;
    }
    Ok(())
}

fn organization_of(holder: &Holder) -> Option<&str> {
    match holder {
        Holder::Ordering(_) => None,
        Holder::Organization(name) => Some(name),
    }
}

/// Deletes what the end of its object does not take along: authorities, identities and volumes. Only for
/// the deletion policy `Delete`.
///
/// # Errors
/// [`HolderError::Apply`] naming the object.
pub async fn delete_retained(
    context: &Context,
    namespace: &str,
    network: &str,
    holder: &Holder,
) -> Result<(), HolderError> {
    let (organization, component) = match holder {
        Holder::Ordering(_) => (None, names::component::ORDERER),
        Holder::Organization(name) => (Some(name.as_str()), names::component::PEER),
    };
    let volumes = select(&context.stores.volumes, namespace, |one: &PersistentVolumeClaim| {
        in_group(one, network, organization, component)
    });
    for volume in volumes {
        context.applier.delete::<PersistentVolumeClaim>(namespace, &volume.name_any()).await?;
    }
    let identities = select(&context.stores.secrets, namespace, |one: &Secret| {
        in_group(one, network, organization, component)
    });
    for identity in identities {
        context.applier.delete::<Secret>(namespace, &identity.name_any()).await?;
    }
    for use_ in [RootUse::Identity, RootUse::Tls] {
        context.applier.delete::<Secret>(namespace, &holder.authority(use_)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_holders_own_nodes_have_an_index() {
        let holder = Holder::Organization("org1".to_owned());
        assert_eq!(index_of(&holder, "org1-peer-12"), Some(12));
        for other in ["org1-peer-", "org1-peer-01", "org1-peer-+1", "org2-peer-0", "org1-peer-0-0"]
        {
            assert_eq!(index_of(&holder, other), None, "{other}");
        }
    }
}
