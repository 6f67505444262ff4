//! A definition from approval to commit, and what is refused on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use weft_peer::chaincode::package::{Connection, Label, Package};
use weft_peer::lifecycle::{self, SourcesError};
use weft_protos::lifecycle::*;
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::{CollectionConfig, CollectionConfigPackage, StaticCollectionConfig};
use weft_types::ValidationCode;

use crate::support::CHANNEL;
use crate::world::{Draft, TestPeer, World};

/// A change that makes arguments bad.
type Spoil = fn(&mut ApproveChaincodeDefinitionForMyOrgArgs);

fn connection() -> Connection {
    Connection::plain("127.0.0.1:1".to_owned())
}

async fn readiness(
    world: &World,
    peer: &TestPeer,
    draft: &Draft,
) -> Result<CheckCommitReadinessResult, String> {
    let args = CheckCommitReadinessArgs {
        sequence: draft.sequence,
        name: draft.name.clone(),
        version: draft.version.clone(),
        validation_parameter: draft.policy.clone(),
        init_required: draft.init_required,
        ..Default::default()
    };
    let response = peer.lifecycle(world.client(peer.org), "CheckCommitReadiness", &args).await;
    match response.status {
        200 => Ok(CheckCommitReadinessResult::decode(response.payload).unwrap()),
        _ => Err(response.message),
    }
}

fn approvals(one: bool, two: bool) -> BTreeMap<String, bool> {
    BTreeMap::from([("Org1MSP".to_owned(), one), ("Org2MSP".to_owned(), two)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_approved_and_committed() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    let draft = Draft::new("asset");
    let package = one.install(world.admin(1), "asset", &connection()).await;

    assert_eq!(readiness(&world, &one, &draft).await.unwrap().approvals, approvals(false, false));
    let approve = draft.approve(world.admin(1), &package);
    let code = world.transact(world.admin(1), &approve, &[&one], &peers).await;
    assert_eq!(code, ValidationCode::Valid);
    // Every peer can tell who approved, also the other organization's.
    for peer in peers {
        let found = readiness(&world, peer, &draft).await.unwrap();
        assert_eq!(found.approvals, approvals(true, false));
        assert_eq!(found.mismatches["Org2MSP"].items, ["ChaincodeParameters"]);
    }
    let other = Draft { version: "2.0".to_owned(), init_required: true, ..draft.clone() };
    let found = readiness(&world, &two, &other).await.unwrap();
    assert_eq!(found.mismatches["Org1MSP"].items, ["EndorsementInfo"]);

    let refused = two
        .call(
            world.admin(2),
            "_lifecycle",
            &[b"CommitChaincodeDefinition", &draft.commit_args().encode_to_vec()],
        )
        .await;
    assert_eq!(
        (refused.status, refused.message.as_str()),
        (
            500,
            "failed to invoke backing implementation of 'CommitChaincodeDefinition': chaincode definition not agreed to by this org (Org2MSP)"
        )
    );
    let approve = draft.approve(world.admin(2), "elsewhere:00");
    assert_eq!(
        world.transact(world.admin(2), &approve, &[&two], &peers).await,
        ValidationCode::Valid
    );

    // One organization is no majority of two.
    let commit = draft.commit(world.admin(1));
    let code = world.transact(world.admin(1), &commit, &[&one], &peers).await;
    assert_eq!(code, ValidationCode::EndorsementPolicyFailure);
    let commit = draft.commit(world.admin(1));
    let code = world.transact(world.admin(1), &commit, &peers, &peers).await;
    assert_eq!(code, ValidationCode::Valid);

    for peer in peers {
        let state = peer.channel().ledger().state();
        let found = lifecycle::definition(&state, "asset").unwrap().unwrap();
        assert_eq!((found.sequence, found.version()), (1, "1.0"));
        assert_eq!(lifecycle::definitions(&state).unwrap(), [found]);
        let args = QueryChaincodeDefinitionArgs { name: "asset".to_owned() };
        let response = peer.lifecycle(world.client(1), "QueryChaincodeDefinition", &args).await;
        let found = QueryChaincodeDefinitionResult::decode(response.payload).unwrap();
        assert_eq!((found.sequence, found.approvals), (1, approvals(true, true)));
        assert_eq!(found.endorsement_plugin, "escc");
        assert_eq!(found.validation_plugin, "vscc");
        let response = peer
            .lifecycle(
                world.client(1),
                "QueryChaincodeDefinitions",
                &QueryChaincodeDefinitionsArgs {},
            )
            .await;
        let all = QueryChaincodeDefinitionsResult::decode(response.payload).unwrap();
        let names: Vec<_> = all.chaincode_definitions.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["asset"]);
    }
    let installed =
        one.call_local(world.admin(1), "_lifecycle", &[b"QueryInstalledChaincodes", b""]).await;
    let installed = QueryInstalledChaincodesResult::decode(installed.payload).unwrap();
    let [found] = installed.installed_chaincodes.as_slice() else { panic!("{installed:?}") };
    assert_eq!((found.label.as_str(), &found.package_id), ("asset", &package));
    assert_eq!(found.references[CHANNEL].chaincodes[0].name, "asset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_not_asked_finds_the_approved_package() {
    let world = World::new().await;
    let (asked, not_asked, other) = (world.peer(1).await, world.peer(1).await, world.peer(2).await);
    let peers = [&asked, &not_asked, &other];
    let draft = Draft::new("asset");
    let package = asked.install(world.admin(1), "asset", &connection()).await;
    for (org, endorser) in [(1, &asked), (2, &other)] {
        let approve = draft.approve(world.admin(org), &package);
        let code = world.transact(world.admin(org), &approve, &[endorser], &peers).await;
        assert_eq!(code, ValidationCode::Valid);
    }
    let commit = draft.commit(world.admin(1));
    let code = world.transact(world.admin(1), &commit, &[&asked, &other], &peers).await;
    assert_eq!(code, ValidationCode::Valid);
    let found = |peer: &TestPeer| {
        let channel = peer.channel();
        peer.sources.endorsable(channel.id(), &channel.ledger().state(), "asset", 1)
    };
    assert_eq!(found(&asked).unwrap().package_id, package);
    assert!(matches!(found(&not_asked), Err(SourcesError::NotInstalled(_))));
    not_asked.install(world.admin(1), "another", &connection()).await;
    assert!(matches!(found(&not_asked), Err(SourcesError::NotInstalled(_))));
    not_asked.install(world.admin(1), "asset", &connection()).await;
    assert_eq!(found(&not_asked).unwrap().package_id, package);

    // What one has the values of, the other works out from the hashes.
    let args = QueryApprovedChaincodeDefinitionArgs { name: "asset".to_owned(), sequence: 0 };
    let function = "QueryApprovedChaincodeDefinition";
    for peer in [&asked, &not_asked] {
        let response = peer.lifecycle(world.admin(1), function, &args).await;
        assert_eq!(response.status, 200, "{}", response.message);
        let approved = QueryApprovedChaincodeDefinitionResult::decode(response.payload).unwrap();
        assert_eq!((approved.sequence, approved.version.as_str()), (1, "1.0"));
        assert_eq!(approved.source, draft.approve_args(&package).source);
    }

    // The organization can take its approval of the package back.
    let none = ApproveChaincodeDefinitionForMyOrgArgs { source: None, ..draft.approve_args("") };
    let none = crate::world::propose(
        world.admin(1),
        "_lifecycle",
        &[b"ApproveChaincodeDefinitionForMyOrg", &none.encode_to_vec()],
    );
    // A peer without the values of the first approval can endorse the second.
    let code = world.transact(world.admin(1), &none, &[&asked, &not_asked], &peers).await;
    assert_eq!(code, ValidationCode::Valid);
    assert!(matches!(found(&asked), Err(SourcesError::NotInstalled(_))));
    assert!(matches!(found(&not_asked), Err(SourcesError::NotInstalled(_))));

    // An approval of the next sequence cannot be worked out.
    let next = Draft { sequence: 2, ..draft };
    let approve = next.approve(world.admin(1), &package);
    let code = world.transact(world.admin(1), &approve, &[&asked], &peers).await;
    assert_eq!(code, ValidationCode::Valid);
    let response = not_asked.lifecycle(world.admin(1), function, &args).await;
    assert!(response.message.contains("does not have the value"), "{}", response.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_break_a_rule_are_refused() {
    let world = World::new().await;
    let (one, two) = (world.peer(1).await, world.peer(2).await);
    let peers = [&one, &two];
    let good = Draft::new("asset");
    let refused: [(&str, Spoil); 10] = [
        ("invalid chaincode name ''", |a| a.name = String::new()),
        ("invalid chaincode name 'a__b'", |a| a.name = "a__b".to_owned()),
        ("invalid chaincode name '_lifecycle'", |a| a.name = "_lifecycle".to_owned()),
        ("chaincode name 'qscc' is the name of a system chaincode", |a| a.name = "qscc".to_owned()),
        ("invalid chaincode version ''", |a| a.version = String::new()),
        ("invalid chaincode version '1 0'", |a| a.version = "1 0".to_owned()),
        ("requested sequence is 0, but first definable sequence number is 1", |a| a.sequence = 0),
        ("requested sequence 2 is larger than the next available sequence number 1", |a| {
            a.sequence = 2
        }),
        ("currently defined sequence 0 is larger than requested sequence -1", |a| a.sequence = -1),
        ("invalid endorsement policy", |a| a.validation_parameter = Bytes::from_static(b"\xff")),
    ];
    for (text, spoil) in refused {
        let mut args = good.approve_args("label:00");
        spoil(&mut args);
        let response =
            one.lifecycle(world.admin(1), "ApproveChaincodeDefinitionForMyOrg", &args).await;
        assert_eq!(response.status, 500);
        assert!(response.message.contains(text), "{text}: {}", response.message);
    }
    let unready =
        readiness(&world, &one, &Draft { sequence: 7, ..good.clone() }).await.unwrap_err();
    assert!(
        unready.ends_with("requested sequence is 7, but new definition must be sequence 1"),
        "{unready}"
    );

    world.define(&peers, &good, &connection()).await;
    let package = one.sources.installed().remove(0);
    let same = one.send(&good.approve(world.admin(1), &package)).await.response.unwrap();
    assert!(
        same.message.ends_with(
            "attempted to redefine the current committed sequence (1) for namespace asset"
        ),
        "{}",
        same.message
    );
    let other = Draft { version: "1.1".to_owned(), ..good.clone() };
    let other = one.send(&other.approve(world.admin(1), &package)).await.response.unwrap();
    assert!(
        other.message.ends_with(
            "with different parameters: expected Version '1.0' does not match passed Version '1.1'"
        ),
        "{}",
        other.message
    );
    let next = Draft { sequence: 2, version: "1.1".to_owned(), ..good };
    let approve = next.approve(world.admin(1), &package);
    assert_eq!(
        world.transact(world.admin(1), &approve, &[&one], &peers).await,
        ValidationCode::Valid
    );
    let again = one.send(&next.approve(world.admin(1), &package)).await.response.unwrap();
    assert!(
        again.message.ends_with("attempted to redefine uncommitted sequence (2) for namespace asset with unchanged content"),
        "{}", again.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_break_a_rule_are_refused() {
    let world = World::new().await;
    let one = world.peer(1).await;
    let members = |policy: &str| {
        let policy = weft_msp::policy::dsl::parse(policy).unwrap();
        let payload = weft_protos::peer::collection_policy_config::Payload::SignaturePolicy(policy);
        Some(weft_protos::peer::CollectionPolicyConfig { payload: Some(payload) })
    };
    let good = StaticCollectionConfig {
        name: "secrets".to_owned(),
        member_orgs_policy: members("OR('Org1MSP.member', 'Org2MSP.member')"),
        maximum_peer_count: 1,
        ..Default::default()
    };
    let bad = |change: fn(&mut StaticCollectionConfig)| {
        let mut bad = good.clone();
        change(&mut bad);
        vec![bad]
    };
    let mut and = good.clone();
    and.member_orgs_policy = members("AND('Org1MSP.member', 'Org2MSP.member')");
    let mut stranger = good.clone();
    stranger.member_orgs_policy = members("OR('Org9MSP.member')");
    let cases = [
        ("", vec![good.clone()]),
        ("invalid collection name '_secrets'", bad(|c| c.name = "_secrets".to_owned())),
        ("found duplicate in collection", vec![good.clone(), good.clone()]),
        (
            "maximum peer count (1) cannot be less than the required peer count (2)",
            bad(|c| c.required_peer_count = 2),
        ),
        ("requiredPeerCount (-1) cannot be less than zero", bad(|c| c.required_peer_count = -1)),
        ("collection member policy is not set", bad(|c| c.member_orgs_policy = None)),
        ("signature policy is not an OR concatenation, NOutOf 2", vec![and]),
        ("collection member 'Org9MSP' is not part of the channel", vec![stranger]),
    ];
    for (text, collections) in cases {
        let config = collections.into_iter().map(|collection| CollectionConfig {
            payload: Some(Payload::StaticCollectionConfig(collection)),
        });
        let collections = CollectionConfigPackage { config: config.collect() };
        let args = ApproveChaincodeDefinitionForMyOrgArgs {
            collections: Some(collections),
            ..Draft::new("asset").approve_args("label:00")
        };
        let response =
            one.lifecycle(world.admin(1), "ApproveChaincodeDefinitionForMyOrg", &args).await;
        assert_eq!(response.status == 200, text.is_empty(), "{text}: {}", response.message);
        assert!(response.message.contains(text), "{text}: {}", response.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_installed_listed_and_given_back() {
    let world = World::new().await;
    let one = world.lone_peer(1);
    let admin = world.admin(1);
    let package = Package::build(&Label::new("asset_1").unwrap(), &connection()).unwrap();
    let id = one.install(admin, "asset_1", &connection()).await;
    let ask = async |function: &str, args: Vec<u8>| {
        one.call_local(admin, "_lifecycle", &[function.as_bytes(), &args]).await
    };
    let args = GetInstalledChaincodePackageArgs { package_id: id.clone() }.encode_to_vec();
    let found = ask("GetInstalledChaincodePackage", args).await;
    let found = GetInstalledChaincodePackageResult::decode(found.payload).unwrap();
    assert_eq!(found.chaincode_install_package, package);
    let args = QueryInstalledChaincodeArgs { package_id: id.clone() }.encode_to_vec();
    let found =
        QueryInstalledChaincodeResult::decode(ask("QueryInstalledChaincode", args).await.payload)
            .unwrap();
    assert_eq!((found.package_id.as_str(), found.label.as_str()), (id.as_str(), "asset_1"));
    assert!(found.references.is_empty());

    let again = InstallChaincodeArgs { chaincode_install_package: package }.encode_to_vec();
    let again = ask("InstallChaincode", again).await;
    let text = format!(
        "failed to invoke backing implementation of 'InstallChaincode': chaincode already successfully installed (package ID '{id}')"
    );
    assert_eq!((again.status, again.message), (500, text));
    let junk = InstallChaincodeArgs { chaincode_install_package: Bytes::from_static(b"junk") };
    let junk = ask("InstallChaincode", junk.encode_to_vec()).await;
    assert!(
        junk.message.contains("could not parse as a chaincode install package"),
        "{}",
        junk.message
    );
    let large = InstallChaincodeArgs { chaincode_install_package: vec![0; 1024 * 1024 + 1].into() };
    let large = ask("InstallChaincode", large.encode_to_vec()).await;
    assert!(large.message.contains("is larger than the limit of 1048576"), "{}", large.message);
    let args = QueryInstalledChaincodeArgs { package_id: "none:00".to_owned() }.encode_to_vec();
    let none = ask("QueryInstalledChaincode", args).await;
    assert!(
        none.message.ends_with("could not find chaincode with package id 'none:00'"),
        "{}",
        none.message
    );

    let client =
        one.call_local(world.client(1), "_lifecycle", &[b"QueryInstalledChaincodes", b""]).await;
    assert_eq!(client.status, 500);
    assert!(
        client.message.starts_with("Failed to authorize invocation due to failed ACL check: "),
        "{}",
        client.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_make_no_sense_are_refused() {
    let world = World::new().await;
    let one = world.peer(1).await;
    let admin = world.admin(1);
    let cases: [(&[&[u8]], i32, &str); 6] = [
        (&[], 500, "lifecycle scc must be invoked with arguments"),
        (
            &[b"QueryChaincodeDefinition"],
            500,
            "lifecycle scc operations require exactly two arguments but received 1",
        ),
        (
            &[b"Nothing", b""],
            500,
            "Failed to authorize invocation due to failed ACL check: no policy is defined for resource _lifecycle/Nothing",
        ),
        (&[b"QueryChaincodeDefinition", b"\x0a\x05asset"], 404, "namespace asset is not defined"),
        (
            &[b"QueryApprovedChaincodeDefinition", b"\x0a\x05asset"],
            500,
            "could not fetch approved chaincode definition (name: 'asset', sequence: '0') on channel 'supply'",
        ),
        (&[b"CheckCommitReadiness", b"\xff"], 500, "could not decode arguments"),
    ];
    for (args, status, text) in cases {
        let response = one.call(admin, "_lifecycle", args).await;
        assert_eq!(response.status, status, "{text}: {}", response.message);
        assert!(response.message.contains(text), "{text}: {}", response.message);
    }
    let args = Draft::new("asset").approve_args("label:00").encode_to_vec();
    let local =
        one.call_local(admin, "_lifecycle", &[b"ApproveChaincodeDefinitionForMyOrg", &args]).await;
    assert!(local.message.contains("no channel is named"), "{}", local.message);
    // Approvals are for administrators of the peer's own organization.
    for stranger in [world.client(1), world.admin(2)] {
        let refused = one.send(&Draft::new("asset").approve(stranger, "label:00")).await;
        assert!(refused.endorsement.is_none());
        assert_eq!(refused.response.unwrap().status, 500);
    }
}
