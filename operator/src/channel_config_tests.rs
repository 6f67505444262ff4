use weft_config::genesis;
use weft_testkit::tx;
use weft_testkit::{Network, clock};
use weft_types::Signer;

use super::*;

fn desired(network: &Network) -> DesiredChannel {
    DesiredChannel {
        id: ChannelId::new("supply").unwrap(),
        consensus: ConsensusType::Raft,
        raft: Raft {
            tick_interval: Duration::from_millis(100),
            election_ticks: 10,
            heartbeat_ticks: 1,
            max_inflight_blocks: 5,
            snapshot_interval_bytes: 1024,
        },
        orderer_msp_id: network.orderer_org.msp_id.clone(),
        orderer_msp: network.orderer_org.msp_config(),
        orderers: network
            .orderers
            .iter()
            .map(|orderer| {
                let consenter = orderer.consenter();
                DesiredOrderer { endpoint: consenter.endpoint, tls_cert: consenter.server_tls_cert }
            })
            .collect(),
        batch: Batch {
            timeout: Duration::from_millis(500),
            max_message_count: 100,
            absolute_max_bytes: 1024 * 1024,
            preferred_max_bytes: 1024 * 1024,
        },
        members: network
            .orgs
            .iter()
            .map(|org| {
                let member =
                    DesiredMember { msp: org.msp_config(), anchor_peers: vec![anchor(7051)] };
                (org.msp_id.clone(), member)
            })
            .collect(),
        policies: PolicyOverrides::default(),
        acls: BTreeMap::new(),
    }
}

fn anchor(port: i32) -> AnchorPeer {
    AnchorPeer { host: "localhost".to_owned(), port }
}

fn genesis_config(desired: &DesiredChannel) -> Config {
    genesis::config(&desired.profile(clock::NOW).unwrap()).unwrap()
}

/// Applies steps until there is none left, each through the rules of a real channel.
#[track_caller]
fn settle(network: &Network, current: Config, desired: &DesiredChannel) -> (Config, usize) {
    let mut bundle = Bundle::new(desired.id.clone(), current).unwrap();
    for steps in 0..10 {
        let Some(next) = next(bundle.config(), desired).unwrap() else {
            return (bundle.config().clone(), steps);
        };
        let signers: Vec<&dyn Signer> =
            network.admins().into_iter().map(|admin| admin as &dyn Signer).collect();
        let update = tx::config_update(&bundle, &next, &signers);
        bundle = bundle.propose(&update, clock::NOW).unwrap().next;
    }
    panic!("the config never settles");
}

#[test]
fn a_new_channel_is_what_was_wanted() {
    let desired = desired(&Network::new(2, 3));
    let config = genesis_config(&desired);
    assert!(next(&config, &desired).unwrap().is_none());
}

#[test]
fn everything_but_consenters_takes_one_update() {
    let network = Network::new(2, 3);
    let before = desired(&network);
    let mut after = before.clone();
    after.batch.max_message_count = 7;
    after.batch.timeout = Duration::from_secs(1);
    after.raft.election_ticks = 20;
    after.policies.endorsement = Some("ANY Endorsement".to_owned());
    after.acls.insert("qscc/GetBlockByNumber".to_owned(), "/Channel/Application/Admins".to_owned());
    let first = after.members.values_mut().next().unwrap();
    first.anchor_peers.push(anchor(8051));
    let (config, steps) = settle(&network, genesis_config(&before), &after);
    assert_eq!(steps, 1);
    let bundle = Bundle::new(after.id.clone(), config).unwrap();
    assert_eq!(bundle.orderer().unwrap().batch_size.max_message_count, 7);
    assert_eq!(bundle.application().unwrap().acls.len(), 1);
}

#[test]
fn a_member_is_added_and_removed() {
    let network = Network::new(3, 1);
    let three = desired(&network);
    let mut two = three.clone();
    let (gone, _) = two.members.pop_last().unwrap();
    let (config, steps) = settle(&network, genesis_config(&two), &three);
    assert_eq!(steps, 1);
    let bundle = Bundle::new(three.id.clone(), config.clone()).unwrap();
    assert!(bundle.application().unwrap().org_of(&gone).is_some());
    let (config, _) = settle(&network, config, &two);
    let bundle = Bundle::new(three.id.clone(), config).unwrap();
    assert!(bundle.application().unwrap().org_of(&gone).is_none());
}

#[test]
fn consenters_change_one_an_update() {
    let network = Network::new(1, 5);
    let five = desired(&network);
    let mut three = five.clone();
    three.orderers.truncate(3);
    let (config, steps) = settle(&network, genesis_config(&three), &five);
    assert_eq!(steps, 2);
    let bundle = Bundle::new(five.id.clone(), config.clone()).unwrap();
    assert_eq!(bundle.orderer_endpoints().len(), 5);
    let (_, steps) = settle(&network, config, &three);
    assert_eq!(steps, 2);
}

#[test]
fn a_policy_that_the_spec_does_not_set_any_more_is_the_default_again() {
    let network = Network::new(2, 1);
    let plain = desired(&network);
    let mut any = plain.clone();
    any.policies.endorsement = Some("ANY Endorsement".to_owned());
    let (config, _) = settle(&network, genesis_config(&plain), &any);
    assert_eq!(differences(&config, &plain).unwrap(), [Edit::Policy(keys::ENDORSEMENT)]);
    let (config, steps) = settle(&network, config, &plain);
    assert_eq!(steps, 1);
    assert!(differences(&config, &plain).unwrap().is_empty());
}

#[test]
fn a_consenter_goes_and_comes_back_with_its_endpoint() {
    let network = Network::new(1, 3);
    let three = desired(&network);
    let config = genesis_config(&three);
    let lost = three.orderers[1].endpoint.clone();
    let without = apply(&config, &three, &[Edit::RemoveConsenter(lost.clone())]).unwrap();
    let bundle = Bundle::new(three.id.clone(), without.clone()).unwrap();
    assert!(bundle.orderer_endpoints().iter().all(|(_, at)| **at != lost));
    assert!(differences(&without, &three).unwrap().is_empty(), "endpoints follow consenters");
    let missing = consenter_differences(&without, &three).unwrap();
    assert_eq!(missing, [Edit::AddConsenter(lost)]);
}

#[test]
fn the_consensus_type_stays() {
    let network = Network::new(1, 1);
    let raft = desired(&network);
    let solo = DesiredChannel { consensus: ConsensusType::Solo, ..raft.clone() };
    let error = next(&genesis_config(&raft), &solo).unwrap_err();
    assert!(matches!(error, ChannelConfigError::ConsensusType { .. }), "{error}");
}
