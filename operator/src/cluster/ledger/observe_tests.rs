use super::*;

fn channel(relation: &str, height: u64, term: u64, role: Role) -> OrdererChannel {
    OrdererChannel {
        height,
        relation: relation.to_owned(),
        status: "active".to_owned(),
        is_leader: role == Role::Leader,
        role: Some(role),
        term,
        ..OrdererChannel::default()
    }
}

fn orderer(channels: Option<OrdererChannel>) -> OrdererFacts {
    let channels = channels.into_iter().map(|one| ("supply".to_owned(), one)).collect();
    OrdererFacts { healthy: true, channels: Some(channels), ..OrdererFacts::default() }
}

fn observation(orderers: Vec<OrdererFacts>) -> Observation {
    let named = orderers.into_iter().enumerate();
    let orderers = named.map(|(index, facts)| (format!("o{index}"), facts)).collect();
    Observation { orderers, peers: BTreeMap::new() }
}

fn voter() -> OrdererFacts {
    orderer(Some(channel("consenter", 9, 2, Role::Follower)))
}

#[test]
fn the_leader_of_the_latest_term_leads() {
    let stale = orderer(Some(channel("consenter", 9, 2, Role::Leader)));
    let fresh = orderer(Some(channel("consenter", 9, 3, Role::Leader)));
    let seen = observation(vec![stale, fresh, voter()]);
    assert_eq!(seen.leader("supply"), Some("o1"));
    assert_eq!(seen.term("supply"), Some(3));
    assert_eq!((seen.leader("side"), seen.term("side")), (None, None));
    assert!(seen.leads("o1") && !seen.leads("o2"));
}

#[test]
fn an_orderer_is_stopped_only_while_the_others_are_a_quorum() {
    let check = |others: Vec<OrdererFacts>, may: bool| {
        let all = std::iter::once(voter()).chain(others).collect();
        assert_eq!(observation(all).may_stop("o0").is_ok(), may);
    };
    let silent = OrdererFacts::default;
    let follower = || orderer(Some(channel("follower", 9, 0, Role::Observer)));
    let quarantined = || orderer(Some(channel("consenter", 9, 2, Role::Quarantined)));
    let behind = || orderer(Some(channel("consenter", 9000, 2, Role::Follower)));
    check(vec![], true);
    check(vec![voter()], true);
    check(vec![voter(), voter()], true);
    check(vec![voter(), silent()], false);
    check(vec![voter(), orderer(None)], false);
    check(vec![voter(), quarantined()], false);
    check(vec![voter(), voter(), follower()], true);
    check(vec![voter(), voter(), voter(), silent()], true);
    check(vec![voter(), voter(), silent(), silent()], false);
    check(vec![behind(), behind()], true);
    let mut ahead = voter();
    if let Some(channel) = ahead.channels.as_mut().and_then(|all| all.get_mut("supply")) {
        channel.height = 1000;
    }
    let all = vec![ahead, voter(), voter()];
    assert!(observation(all).may_stop("o0").is_err(), "the others have to catch up first");
}

#[test]
fn a_node_that_does_not_answer_is_known_as_such() {
    let seen = observation(vec![voter(), OrdererFacts::default()]);
    assert!(seen.answered("o0") && !seen.answered("o1") && !seen.answered("o2"));
    assert_eq!(seen.heights("supply"), BTreeMap::from([("o0".to_owned(), 9)]));
}

#[test]
fn a_ledger_of_an_earlier_channel_of_that_name_counts_for_nothing() {
    let with = |genesis: Option<&str>, height| {
        let facts = channel("consenter", height, 7, Role::Leader);
        orderer(Some(OrdererChannel { genesis: genesis.map(str::to_owned), ..facts }))
    };
    let mut seen = observation(vec![with(Some("new"), 3), with(Some("old"), 500), with(None, 2)]);
    let peer = |height| PeerFacts {
        heights: Some([("supply".to_owned(), height)].into()),
        ..PeerFacts::default()
    };
    seen.peers = [("p0".to_owned(), peer(3)), ("p1".to_owned(), peer(900))].into();
    let peers = [("p0".to_owned(), "new".to_owned()), ("p1".to_owned(), "old".to_owned())].into();
    seen.set_aside("supply", "new", &peers);
    assert_eq!(seen.height("supply"), 3);
    assert_eq!(seen.heights("supply").into_keys().collect::<Vec<_>>(), ["o0", "o2", "p0"]);
    assert_ne!(seen.leader("supply"), Some("o1"));
    assert!(seen.answered("o1") && seen.answered("p1"), "they are known, and not missing");
    let old = [("supply".to_owned(), "old".to_owned())].into();
    assert_eq!((&seen.orderers["o1"].foreign, &seen.peers["p1"].foreign), (&old, &old));
}
