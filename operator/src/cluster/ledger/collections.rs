//! Pure: the collections of a chaincode as a definition has them, and what a channel's rules leave
//! open to change (Fabric: core/chaincode/lifecycle/scc.go, validateCollectionConfigs).

use std::collections::BTreeMap;

use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{
    CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
};

use super::LedgerError;
use super::chaincode::application_policy;
use crate::model::{self, Collection};

/// The collections of a definition; `None` when there are none.
///
/// # Errors
/// [`LedgerError::Chaincode`] when the text of a policy does not parse.
pub fn package(
    chaincode: &model::Chaincode,
) -> Result<Option<CollectionConfigPackage>, LedgerError> {
    let config = |(index, collection)| {
        let payload = Payload::StaticCollectionConfig(encoded(chaincode, index, collection)?);
        Ok(CollectionConfig { payload: Some(payload) })
    };
    let all = chaincode.collections.iter().enumerate().map(config);
    let config = all.collect::<Result<Vec<_>, LedgerError>>()?;
    Ok((!config.is_empty()).then_some(CollectionConfigPackage { config }))
}

fn encoded(
    chaincode: &model::Chaincode,
    index: usize,
    collection: &Collection,
) -> Result<StaticCollectionConfig, LedgerError> {
    let field = format!("spec.collections[{index}].endorsementPolicy");
    let endorsement = collection.endorsement.as_ref();
    let endorsement = endorsement.map(|policy| application_policy(chaincode, &field, policy));
    let members = Members::SignaturePolicy(collection.members.clone());
    Ok(StaticCollectionConfig {
        name: collection.name.clone(),
        member_orgs_policy: Some(CollectionPolicyConfig { payload: Some(members) }),
        required_peer_count: collection.required_peers,
        maximum_peer_count: collection.maximum_peers,
        block_to_live: collection.block_to_live,
        member_only_read: collection.member_only_read,
        member_only_write: collection.member_only_write,
        endorsement_policy: endorsement.transpose()?,
    })
}

/// Whether both define the same collections, in whichever order.
pub fn same(
    one: Option<&CollectionConfigPackage>,
    other: Option<&CollectionConfigPackage>,
) -> bool {
    by_name(one) == by_name(other)
}

fn by_name(package: Option<&CollectionConfigPackage>) -> BTreeMap<&str, &StaticCollectionConfig> {
    let configs = package.into_iter().flat_map(|package| &package.config);
    let payloads = configs.filter_map(|config| config.payload.as_ref());
    payloads.map(|Payload::StaticCollectionConfig(one)| (one.name.as_str(), one)).collect()
}

/// Checks that a change is one that peers let through: a collection stays, and so does the time
/// that its values live.
///
/// # Errors
/// [`LedgerError::Chaincode`] naming the field and what it has to say.
pub fn check_kept(
    chaincode: &str,
    wanted: Option<&CollectionConfigPackage>,
    committed: Option<&CollectionConfigPackage>,
) -> Result<(), LedgerError> {
    let wanted = by_name(wanted);
    for (name, before) in by_name(committed) {
        let what = match wanted.get(name) {
            None => format!(
                "spec.collections: {name:?} is committed on the channel and cannot be removed; \
                 put it back, with blockToLive {}",
                before.block_to_live
            ),
            Some(after) if after.block_to_live != before.block_to_live => format!(
                "spec.collections: blockToLive of {name:?} is {} on the channel and cannot be \
                 changed to {}",
                before.block_to_live, after.block_to_live
            ),
            Some(_) => continue,
        };
        return Err(LedgerError::Chaincode { chaincode: chaincode.to_owned(), what });
    }
    Ok(())
}
