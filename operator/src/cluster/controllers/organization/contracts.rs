//! The contracts that register with an organization's peers.

use kube::ResourceExt;
use weft_package::PackageId;

use crate::api::Chaincode;
use crate::cluster::controllers::holder::Contract;
use crate::cluster::controllers::scene::Scene;
use crate::cluster::controllers::stores::{Stores, find, select};
use crate::cluster::ledger::chaincode::package;

/// The contracts on the channels of a member that register. What is known of them follows from the
/// objects alone, so that a spec that is not valid for a while takes no certificate away.
pub(super) fn of_member(stores: &Stores, scene: &Scene, organization: &str) -> Vec<Contract> {
    let on_channel = |one: &Chaincode| {
        let channel = find(&stores.channels, &scene.namespace, &one.spec.channel_ref);
        channel.is_none_or(|one| one.spec.organizations.iter().any(|name| name == organization))
    };
    let registering = |one: &Chaincode| one.spec.register && on_channel(one);
    select(&stores.chaincodes, &scene.namespace, registering)
        .iter()
        .map(|object| Contract {
            chaincode: object.name_any(),
            channel: object.spec.channel_ref.clone(),
            package: package_of(scene, object),
        })
        .collect()
}

/// The package that the chaincode's controller installs.
fn package_of(scene: &Scene, object: &Chaincode) -> Option<PackageId> {
    if !scene.problems_of("Chaincode", &object.name_any()).is_empty() {
        return None;
    }
    let (_, _, chaincode) = scene.chaincode(object)?;
    package(chaincode, "").ok()?.id.parse().ok()
}
