//! The MSPs of holders, without keys: their own from the published bundle, those of external
//! organizations from the ConfigMap that their spec names.

use k8s_openapi::api::core::v1::ConfigMap;
use weft_protos::msp::FabricMspConfig;
use weft_types::MspId;

use super::context::Context;
use super::stores::find;
use crate::cluster::apply::ApplyError;
use crate::cluster::identity::{BundleError, bundle};
use crate::cluster::names::Holder;
use crate::model;

/// Why the MSP of a holder is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum MspUnusable {
    /// The ConfigMap is not there.
    #[error("there is no ConfigMap {name:?}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// It cannot be used.
    #[error("ConfigMap {name:?}: {source}")]
    Bundle {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: BundleError,
    },
    /// It is another organization's.
    #[error("ConfigMap {name:?} is the bundle of {found}, not of {expected}")]
    Other {
        /// Its name.
        name: String,
        /// Whose it is.
        found: MspId,
        /// Whose it should be.
        expected: MspId,
    },
}

/// The MSP of a holder that is managed here.
///
/// # Errors
/// [`MspUnusable`].
pub fn of_holder(
    context: &Context,
    namespace: &str,
    holder: &Holder,
    msp_id: &MspId,
) -> Result<FabricMspConfig, MspUnusable> {
    let name = holder.msp();
    let map = find(&context.stores.config_maps, namespace, &name);
    read(name, map.as_deref(), msp_id)
}

/// The MSP of an organization that runs elsewhere.
///
/// # Errors
/// [`ApplyError`] when the API server cannot be asked.
pub async fn of_external(
    context: &Context,
    namespace: &str,
    organization: &model::Organization,
) -> Result<Result<FabricMspConfig, MspUnusable>, ApplyError> {
    let external = organization.external.as_ref();
    let name = external.map(|one| one.bundle_ref.name.clone()).unwrap_or_default();
    let map = context.applier.get::<ConfigMap>(namespace, &name).await?;
    Ok(read(name, map.as_ref(), &organization.msp_id))
}

fn read(
    name: String,
    map: Option<&ConfigMap>,
    expected: &MspId,
) -> Result<FabricMspConfig, MspUnusable> {
    let Some(data) = map.and_then(|map| map.data.as_ref()) else {
        return Err(MspUnusable::Missing { name });
    };
    match bundle::parse(data) {
        Ok((found, config)) if found == *expected => Ok(config),
        Ok((found, _)) => Err(MspUnusable::Other { name, found, expected: expected.clone() }),
        Err(source) => Err(MspUnusable::Bundle { name, source }),
    }
}
