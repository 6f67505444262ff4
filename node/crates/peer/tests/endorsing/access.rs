//! Resources and who may use them.

use std::sync::Arc;

use weft_config::{Bundle, edit};
use weft_msp::policy::SignedData;
use weft_msp::{MspManager, SigningIdentity};
use weft_peer::acl::{self, Acl, AclError, DefaultRule, READERS, WRITERS};
use weft_testkit::clock::NOW;
use weft_testkit::{Network, Org};
use weft_types::Signer;

use crate::support::CHANNEL;

/// The defaults that Fabric's documentation lists.
const EXPECTED: &str = "
_lifecycle/InstallChaincode admins
_lifecycle/QueryInstalledChaincode admins
_lifecycle/GetInstalledChaincodePackage admins
_lifecycle/QueryInstalledChaincodes admins
_lifecycle/ApproveChaincodeDefinitionForMyOrg admins
_lifecycle/QueryApprovedChaincodeDefinition admins
_lifecycle/QueryApprovedChaincodeDefinitions admins
_lifecycle/CommitChaincodeDefinition writers
_lifecycle/QueryChaincodeDefinition writers
_lifecycle/QueryChaincodeDefinitions writers
_lifecycle/CheckCommitReadiness writers
qscc/GetChainInfo readers
qscc/GetBlockByNumber readers
qscc/GetBlockByHash readers
qscc/GetTransactionByID readers
qscc/GetBlockByTxID readers
cscc/JoinChain admins
cscc/JoinChainBySnapshot admins
cscc/JoinBySnapshotStatus admins
cscc/GetChannels members
cscc/GetConfigBlock readers
cscc/GetChannelConfig readers
snapshot/submitrequest admins
peer/Propose writers
peer/ChaincodeToChaincode writers
event/Block readers
event/FilteredBlock readers
gateway/CommitStatus readers
gateway/ChaincodeEvents readers
";

fn signed(signer: &SigningIdentity) -> SignedData {
    let data = bytes::Bytes::from_static(b"request");
    let signature = signer.sign(&data).unwrap();
    SignedData { data, identity: signer.serialized_identity(), signature }
}

fn acl_of(org: &Org) -> Acl {
    Acl::new(Arc::new(MspManager::new([org.msp()]).unwrap()), org.msp_id.clone())
}

#[test]
fn defaults_are_those_of_fabric() {
    for line in EXPECTED.trim().lines() {
        let (resource, rule) = line.split_once(' ').unwrap();
        let rule = match rule {
            "admins" => DefaultRule::LocalAdmins,
            "members" => DefaultRule::LocalMembers,
            "readers" => DefaultRule::Channel(READERS),
            _ => DefaultRule::Channel(WRITERS),
        };
        assert_eq!(acl::default_rule(resource), Some(rule), "{resource}");
    }
    assert_eq!(acl::default_rule("peer/Nothing"), None);
}

#[test]
fn a_channel_resource_needs_the_channels_policy() {
    let network = Network::new(2, 1);
    let bundle = network.bundle(CHANNEL);
    let acl = acl_of(network.org(1));
    let check = |resource, signer| acl.check(&bundle, resource, &signed(signer), NOW);
    for org in [1, 2] {
        check(acl::PEER_PROPOSE, &network.org(org).client).unwrap();
        check("qscc/GetChainInfo", &network.org(org).peer).unwrap();
    }
    // Peers read and do not write.
    let refused = check(acl::PEER_PROPOSE, &network.org(1).peer).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("on channel [supply] with policy [/Channel/Application/Writers]"),
        "{refused}"
    );
    let stranger = Org::new("Org9MSP");
    assert!(matches!(check(acl::EVENT_BLOCK, &stranger.admin), Err(AclError::Policy { .. })));
    assert!(matches!(check("peer/Nothing", &network.org(1).admin), Err(AclError::Unmapped { .. })));
    let mut forged = signed(&network.org(1).client);
    forged.data = bytes::Bytes::from_static(b"another");
    assert!(acl.check(&bundle, acl::EVENT_BLOCK, &forged, NOW).is_err());
    let identity = bundle.msps().deserialize_identity(&forged.identity).unwrap();
    let data = bytes::Bytes::from_static(b"request");
    let client = identity.authenticate(&data, &forged.signature).unwrap();
    acl.check_authenticated(&bundle, acl::PEER_PROPOSE, &client, NOW).unwrap();
}

#[test]
fn a_channel_can_replace_policies_of_its_own_resources_only() {
    let network = Network::new(2, 1);
    let mut config = network.config(CHANNEL);
    edit::set_acl(&mut config, acl::EVENT_BLOCK, Some("/Channel/Application/Admins")).unwrap();
    edit::set_acl(&mut config, "qscc/GetChainInfo", Some("Nowhere")).unwrap();
    edit::set_acl(&mut config, "cscc/JoinChain", Some("/Channel/Application/Readers")).unwrap();
    edit::set_acl(&mut config, "custom/Resource", Some("Readers")).unwrap();
    let bundle = Bundle::new(weft_types::ChannelId::new(CHANNEL).unwrap(), config).unwrap();
    let acl = acl_of(network.org(1));
    let check = |resource, signer| acl.check(&bundle, resource, &signed(signer), NOW);
    let Org { client, admin, .. } = network.org(1);
    assert!(check(acl::EVENT_BLOCK, client).is_err());
    // Nothing satisfies a policy that does not exist.
    assert!(check("qscc/GetChainInfo", admin).is_err());
    assert!(matches!(check("cscc/JoinChain", client), Err(AclError::Local { .. })));
    check("cscc/JoinChain", admin).unwrap();
    check("custom/Resource", client).unwrap();
}

#[test]
fn a_local_resource_needs_the_peers_own_organization() {
    let network = Network::new(2, 1);
    let acl = acl_of(network.org(1));
    let check = |resource, signer| acl.check_local(resource, &signed(signer), NOW);
    check("cscc/JoinChain", &network.org(1).admin).unwrap();
    check("cscc/GetChannels", &network.org(1).client).unwrap();
    assert!(matches!(check("cscc/JoinChain", &network.org(1).client), Err(AclError::Local { .. })));
    let other = &network.org(2).admin;
    assert!(matches!(check("cscc/GetChannels", other), Err(AclError::Stranger { .. })));
    assert!(matches!(check("qscc/GetChainInfo", other), Err(AclError::NoChannel { .. })));
    assert!(matches!(check("peer/Nothing", other), Err(AclError::Unmapped { .. })));
    let mut forged = signed(&network.org(1).admin);
    forged.signature = signed(&network.org(1).client).signature;
    assert!(matches!(acl.check_local("cscc/JoinChain", &forged, NOW), Err(AclError::Signature(_))));
    assert!(acl.check_admin(&signed(&network.org(1).client), NOW).is_err());
    acl.check_member(&signed(&network.org(1).client), NOW).unwrap();
}
