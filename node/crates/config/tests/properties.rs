//! Properties over random configurations and random bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use bytes::Bytes;
use proptest::{collection, option, prelude::*};
use weft_config::{
    AnchorPeer, BatchSize, Bundle, Endpoint, RaftOptions, block, edit, genesis::PolicyRule, update,
};
use weft_msp::ValidAt;
use weft_protos::common::{
    Block, BlockData, BlockHeader, Config, ConfigEnvelope, ConfigGroup, ConfigPolicy, ConfigUpdate,
    ConfigValue, Envelope, Policy,
};
use weft_testkit::{Network, clock::NOW, network::OrdererNode, tx};
use weft_types::{ChannelId, Signer};

static NETWORK: LazyLock<(Network, Bundle)> = LazyLock::new(|| {
    let network = Network::new(2, 3);
    let bundle = network.bundle("supply");
    (network, bundle)
});

// ---- Trees ----

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["A", "B", "C", "D", "E"]).prop_map(str::to_owned)
}

fn mod_policy() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["Admins", "Writers", "/Channel/Admins"]).prop_map(str::to_owned)
}

fn content() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec![&b"x"[..], b"y", b""]).prop_map(Bytes::from_static)
}

fn value() -> impl Strategy<Value = ConfigValue> {
    (0..3_u64, content(), mod_policy()).prop_map(|(version, value, mod_policy)| ConfigValue {
        version,
        value,
        mod_policy,
    })
}

fn policy() -> impl Strategy<Value = ConfigPolicy> {
    let policy = option::of((0..4, content()).prop_map(|(r#type, value)| Policy { r#type, value }));
    (0..3_u64, policy, mod_policy()).prop_map(|(version, policy, mod_policy)| ConfigPolicy {
        version,
        policy,
        mod_policy,
    })
}

fn group() -> impl Strategy<Value = ConfigGroup> {
    let leaf = (0..3_u64, mod_policy(), members(value()), members(policy())).prop_map(
        |(version, mod_policy, values, policies)| ConfigGroup {
            version,
            mod_policy,
            values,
            policies,
            groups: BTreeMap::new(),
        },
    );
    leaf.prop_recursive(3, 20, 3, |inner| {
        (0..3_u64, mod_policy(), members(value()), members(policy()), members(inner)).prop_map(
            |(version, mod_policy, values, policies, groups)| ConfigGroup {
                version,
                mod_policy,
                values,
                policies,
                groups,
            },
        )
    })
}

fn members<T: std::fmt::Debug>(
    member: impl Strategy<Value = T>,
) -> impl Strategy<Value = BTreeMap<String, T>> {
    collection::btree_map(name(), member, 0..3)
}

/// The tree without versions: what it says, not how often that changed.
fn said(group: &ConfigGroup) -> ConfigGroup {
    let mut group = group.clone();
    forget_versions(&mut group);
    group
}

fn forget_versions(group: &mut ConfigGroup) {
    group.version = 0;
    group.values.values_mut().for_each(|value| value.version = 0);
    group.policies.values_mut().for_each(|policy| policy.version = 0);
    group.groups.values_mut().for_each(forget_versions);
}

/// A straightforward application of an update, without any check: written groups replace the list of
/// members where their version is raised, and other written members replace single ones.
fn overlay(current: &ConfigGroup, read: &ConfigGroup, write: &ConfigGroup) -> ConfigGroup {
    let raised = read.version != write.version;
    let mut result = if raised {
        ConfigGroup {
            version: write.version,
            mod_policy: write.mod_policy.clone(),
            ..Default::default()
        }
    } else {
        current.clone()
    };
    for (name, value) in &write.values {
        let unchanged = read.values.get(name).is_some_and(|read| read.version == value.version);
        let kept = current.values.get(name).filter(|_| unchanged).unwrap_or(value);
        result.values.insert(name.clone(), kept.clone());
    }
    for (name, policy) in &write.policies {
        let unchanged = read.policies.get(name).is_some_and(|read| read.version == policy.version);
        let kept = current.policies.get(name).filter(|_| unchanged).unwrap_or(policy);
        result.policies.insert(name.clone(), kept.clone());
    }
    for (name, child) in &write.groups {
        let merged = match (current.groups.get(name), read.groups.get(name)) {
            (Some(current), Some(read)) => overlay(current, read, child),
            _ => child.clone(),
        };
        result.groups.insert(name.clone(), merged);
    }
    result
}

/// Every element of the read set stands in the tree at its version.
fn reads_truly(current: &ConfigGroup, read: &ConfigGroup) -> bool {
    read.version == current.version
        && read.values.iter().all(|(name, value)| current.values[name].version == value.version)
        && read.policies.iter().all(|(name, p)| current.policies[name].version == p.version)
        && read.groups.iter().all(|(name, group)| reads_truly(&current.groups[name], group))
}

/// Small changes here and there: one pick a group, most of which leave it as it is.
fn tweak(group: &mut ConfigGroup, picks: &mut impl Iterator<Item = u8>) {
    match picks.next().unwrap_or(u8::MAX) % 12 {
        0 => group.mod_policy.push('x'),
        1 => _ = group.values.pop_first(),
        2 => _ = group.policies.insert("New".into(), ConfigPolicy::default()),
        3 => group.values.values_mut().for_each(|value| value.mod_policy.push('x')),
        4 => group.policies.values_mut().for_each(|policy| policy.policy = None),
        5 => _ = group.groups.pop_last(),
        _ => {}
    }
    group.groups.values_mut().for_each(|child| tweak(child, picks));
}

fn two_trees() -> impl Strategy<Value = (ConfigGroup, ConfigGroup)> {
    let near = (group(), collection::vec(any::<u8>(), 1..20)).prop_map(|(current, picks)| {
        let mut wanted = current.clone();
        tweak(&mut wanted, &mut picks.into_iter());
        (current, wanted)
    });
    prop_oneof![near, (group(), group())]
}

proptest! {
    #[test]
    fn applying_what_was_computed_gives_what_was_wanted((current, wanted) in two_trees()) {
        let channel = ChannelId::new("supply").unwrap();
        let config = |group: &ConfigGroup| Config { sequence: 0, channel_group: Some(group.clone()) };
        match update::compute(&channel, &config(&current), &config(&wanted)) {
            Err(_) => prop_assert_eq!(said(&current), said(&wanted)),
            Ok(ConfigUpdate { read_set: Some(read), write_set: Some(write), .. }) => {
                prop_assert!(reads_truly(&current, &read));
                let result = overlay(&current, &read, &write);
                prop_assert_eq!(said(&result), said(&wanted));
            }
            Ok(other) => prop_assert!(false, "sets are missing: {other:?}"),
        }
    }
}

// ---- Edits of a real channel ----

#[derive(Debug, Clone)]
enum Edit {
    BatchSize(u32),
    BatchTimeout(u64),
    Acl(String, bool),
    Anchors(usize, Vec<i32>),
    Endpoints(Vec<u16>),
    Policy(usize, bool),
    Tick(u64),
    AddConsenter,
    RemoveConsenter,
    RemoveOrg,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (1..9_u32).prop_map(Edit::BatchSize),
        (1..9_u64).prop_map(Edit::BatchTimeout),
        (name(), any::<bool>()).prop_map(|(name, set)| Edit::Acl(name, set)),
        (0..2_usize, collection::vec(1..9_i32, 0..3))
            .prop_map(|(org, ports)| Edit::Anchors(org, ports)),
        collection::vec(1..9_u16, 1..3).prop_map(Edit::Endpoints),
        (0..3_usize, any::<bool>()).prop_map(|(at, any)| Edit::Policy(at, any)),
        (1..9_u64).prop_map(Edit::Tick),
        Just(Edit::AddConsenter),
        Just(Edit::RemoveConsenter),
        Just(Edit::RemoveOrg),
    ];
    collection::vec(edit, 1..6)
}

fn carry_out(network: &Network, config: &mut Config, edit: &Edit) {
    // An edit that does not fit any more, as another one took its object away, leaves all as it is.
    let _ = match edit {
        Edit::BatchSize(count) => {
            let size = BatchSize { max_message_count: *count, ..BatchSize::default() };
            edit::set_batch_size(config, size)
        }
        Edit::BatchTimeout(seconds) => {
            edit::set_batch_timeout(config, Duration::from_secs(*seconds))
        }
        Edit::Acl(name, set) => edit::set_acl(config, name, set.then_some("Admins")),
        Edit::Anchors(org, ports) => {
            let peer = |port: &i32| AnchorPeer { host: "peer".into(), port: *port };
            let peers: Vec<_> = ports.iter().map(peer).collect();
            edit::set_anchor_peers(config, ["Org1MSP", "Org2MSP"][*org], &peers)
        }
        Edit::Endpoints(ports) => {
            let endpoints: Vec<_> = ports.iter().map(|port| Endpoint::new("o", *port)).collect();
            edit::set_endpoints(config, "OrdererMSP", &endpoints)
        }
        Edit::Policy(at, any) => {
            let path = ["/Channel", "/Channel/Application", "/Channel/Orderer"][*at];
            let rule =
                if *any { PolicyRule::any("Admins") } else { PolicyRule::majority("Admins") };
            edit::set_policy(config, path, "Extra", &rule)
        }
        Edit::Tick(ticks) => {
            let tick_interval = Duration::from_millis(*ticks);
            edit::set_raft_options(config, &RaftOptions { tick_interval, ..RaftOptions::default() })
        }
        Edit::AddConsenter => {
            let node = OrdererNode::new(&network.orderer_org, 9);
            edit::add_consenter(config, &node.consenter())
        }
        Edit::RemoveConsenter => edit::remove_consenter(config, &network.orderers[1].endpoint),
        Edit::RemoveOrg => edit::remove_application_org(config, "Org2MSP"),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_edits_are_carried_out_to_the_letter(edits in edits()) {
        let (network, bundle) = &*NETWORK;
        let mut wanted = bundle.config().clone();
        edits.iter().for_each(|edit| carry_out(network, &mut wanted, edit));
        let channel = bundle.channel_id();
        prop_assume!(update::compute(channel, bundle.config(), &wanted).is_ok());

        let admins = network.admins();
        let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
        let update = tx::config_update(bundle, &wanted, &signers);
        let proposed = bundle.propose(&update, NOW).unwrap();
        let found = proposed.next.config().channel_group.as_ref().unwrap();
        prop_assert_eq!(said(found), said(wanted.channel_group.as_ref().unwrap()));
        prop_assert_eq!(proposed.next.sequence(), 1);

        let received = bundle.validate_next(&proposed.envelope, ValidAt::Issuance).unwrap();
        prop_assert_eq!(received.config(), proposed.next.config());
        // The reverse of the change leads back to what was said before.
        let back = tx::config_update(&received, bundle.config(), &signers);
        let back = received.propose(&back, NOW).unwrap().next;
        let (found, first) = (back.config().channel_group.as_ref(), bundle.config().channel_group.as_ref());
        prop_assert_eq!(said(found.unwrap()), said(first.unwrap()));
    }
}

// ---- Hostile input ----

proptest! {
    #[test]
    fn random_bytes_are_errors_not_panics(bytes in collection::vec(any::<u8>(), 0..200)) {
        let (_, bundle) = &*NETWORK;
        let bytes = Bytes::from(bytes);
        let envelope = Envelope { payload: bytes.clone(), signature: bytes.clone() };
        prop_assert!(bundle.propose(&envelope, NOW).is_err());
        let config = ConfigEnvelope {
            config: Some(Config { sequence: 1, channel_group: None }),
            last_update: Some(envelope),
        };
        prop_assert!(bundle.validate_next(&config, NOW).is_err());
        let block = Block {
            header: Some(BlockHeader::default()),
            data: Some(BlockData { data: vec![bytes] }),
            metadata: None,
        };
        prop_assert!(block::bundle_from_block(&block).is_err());
        prop_assert!(block::verify(bundle, &block, NOW).is_err());
    }

    #[test]
    fn random_trees_make_bundles_or_errors(group in group()) {
        let channel = ChannelId::new("supply").unwrap();
        let config = Config { sequence: 0, channel_group: Some(group) };
        prop_assert!(weft_config::inspect::view(&channel, &config).channel.is_some());
        prop_assert!(Bundle::new(channel, config).is_err());
    }

    #[test]
    fn a_flipped_byte_of_an_update_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (network, bundle) = &*NETWORK;
        let mut wanted = bundle.config().clone();
        edit::set_batch_timeout(&mut wanted, Duration::from_secs(7)).unwrap();
        let computed = update::compute(bundle.channel_id(), bundle.config(), &wanted).unwrap();
        let mut bytes = prost::Message::encode_to_vec(&computed);
        let good: Bytes = bytes.clone().into();
        let signature =
            update::sign_update(&good, &network.orderer_org.admin, tx::nonce()).unwrap();
        let index = at.index(bytes.len());
        bytes[index] ^= 1 << bit;
        let signed = weft_protos::common::ConfigUpdateEnvelope {
            config_update: bytes.into(),
            signatures: vec![signature],
        };
        let envelope = update::update_envelope(
            bundle.channel_id(), signed, &network.org(1).client, NOW, tx::nonce(),
        ).unwrap();
        prop_assert!(bundle.propose(&envelope, NOW).is_err());
    }
}
