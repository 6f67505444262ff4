//! Config updates that need signatures which nobody here can give: published for others to
//! sign, and their signatures taken in.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::api::Channel;
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::error::ReconcileError;
use crate::cluster::controllers::report;
use crate::cluster::controllers::stores::find;
use crate::cluster::ledger::channel::ConfigState;
use crate::cluster::ledger::signatures::SignedUpdate;
use crate::cluster::names::{component, key, label, pending_update};
use crate::cluster::resources::labels;

/// Signatures that were put into Secrets for this channel. They are looked for while an update
/// is pending: nobody has anything to sign before.
///
/// # Errors
/// [`ReconcileError`].
pub async fn supplied(
    context: &Context,
    object: &Channel,
) -> Result<Vec<SignedUpdate>, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    if find(&context.stores.config_maps, &namespace, &pending_update(&name)).is_none() {
        return Ok(Vec::new());
    }
    let selector = format!("{}={name}", label::CHANNEL_SIGNATURE);
    let secrets = context.applier.list::<Secret>(&namespace, &selector).await?;
    let read = |secret: &Secret| {
        let bytes = secret.data.as_ref()?.get(key::SIGNATURE)?;
        match SignedUpdate::read(&bytes.0) {
            Ok(signed) => Some(signed),
            Err(error) => {
                let secret = secret.name_any();
                tracing::warn!(%namespace, %secret, %error, "a signature cannot be read");
                None
            }
        }
    };
    Ok(secrets.iter().filter_map(read).collect())
}

/// Shows the update that waits for signatures, and takes it away when none does.
///
/// # Errors
/// [`ReconcileError`].
pub async fn publish(
    context: &Context,
    object: &Channel,
    config: &ConfigState,
) -> Result<(), ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = pending_update(&object.name_any());
    let live = find(&context.stores.config_maps, &namespace, &name);
    let ConfigState::NeedsSignatures(needed) = config else {
        if live.is_some() {
            context.applier.delete::<ConfigMap>(&namespace, &name).await?;
        }
        return Ok(());
    };
    let network = &object.spec.network_ref;
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            labels: Some(labels::for_channel(&object.name_any(), network, component::UPDATE)),
            owner_references: Some(vec![report::owner(object)]),
            ..ObjectMeta::default()
        },
        data: Some([(key::NEEDED.to_owned(), needed.missing.join("\n"))].into()),
        binary_data: Some([(key::UPDATE.to_owned(), ByteString(needed.update.to_vec()))].into()),
        ..ConfigMap::default()
    };
    context.applier.apply(&map, live.as_deref()).await?;
    Ok(())
}
