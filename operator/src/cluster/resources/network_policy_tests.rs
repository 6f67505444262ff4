//! Who reaches what, as a network that enforces the policies would decide.

use super::*;
use crate::cluster::names::Holder;

/// A pod that calls.
struct Caller {
    pod: Labels,
    namespace: Labels,
    /// Whether it is in the namespace of the policy.
    here: bool,
}

fn pod<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn local(pod: Labels) -> Caller {
    Caller { pod, namespace: Labels::new(), here: true }
}

fn remote(pod: Labels) -> Caller {
    Caller { pod, namespace: Labels::new(), here: false }
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let within = selector.match_expressions.iter().flatten().all(|expression| {
        assert_eq!(expression.operator, "In");
        let values = expression.values.as_deref().unwrap();
        labels.get(&expression.key).is_some_and(|value| values.contains(value))
    });
    equal && within
}

/// The API's rule: without a namespace selector a peer is a pod of the policy's namespace.
fn is_peer(peer: &NetworkPolicyPeer, caller: &Caller) -> bool {
    let namespace = match &peer.namespace_selector {
        Some(selector) => matches(selector, &caller.namespace),
        None => caller.here,
    };
    namespace && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &caller.pod))
}

fn open(policy: &NetworkPolicy, caller: &Caller) -> Vec<i32> {
    let rules = policy.spec.as_ref().unwrap().ingress.iter().flatten();
    let open = rules.filter(|rule| {
        // The API takes a rule without peers as open to everyone.
        rule.from.as_ref().unwrap().iter().any(|peer| is_peer(peer, caller))
    });
    open.flat_map(|rule| rule.ports.iter().flatten())
        .map(|port| match port.port {
            Some(IntOrString::Int(number)) => number,
            _ => panic!("a port by name"),
        })
        .collect()
}

fn group(holder: Holder) -> NetworkPolicy {
    let group =
        Group { holder, network: "net".to_owned(), namespace: "ns".to_owned(), replicas: 3 };
    policy(&group, &OwnerReference::default())
}

fn check(caller: &Caller, orderer: &[i32], peer: &[i32]) {
    assert_eq!(open(&group(Holder::Ordering("net".to_owned())), caller), orderer);
    assert_eq!(open(&group(Holder::Organization("org1".to_owned())), caller), peer);
}

fn orderer() -> Labels {
    labels::for_group(&Holder::Ordering("net".to_owned()), "net")
}

fn peer(organization: &str) -> Labels {
    labels::for_group(&Holder::Organization(organization.to_owned()), "net")
}

fn contract() -> Labels {
    labels::for_chaincode("asset", "supply", "net")
}

#[test]
fn nodes_of_the_network_reach_grpc_only() {
    check(&local(orderer()), &[7050], &[7051]);
    check(&local(peer("org1")), &[7050], &[7051]);
    check(&local(peer("org2")), &[7050], &[7051]);
}

#[test]
fn nodes_of_another_network_do_not_reach_the_orderers() {
    let other = labels::for_group(&Holder::Ordering("other".to_owned()), "other");
    check(&local(other), &[], &[7051]);
    check(&remote(orderer()), &[], &[7051]);
}

#[test]
fn programs_reach_the_listener_for_them() {
    check(&local(contract()), &[], &[7051, 7052]);
    check(&remote(contract()), &[], &[7051]);
    check(&local(labels::for_chaincode("asset", "supply", "other")), &[], &[7051]);
}

#[test]
fn the_operator_reaches_what_it_asks_and_changes() {
    check(&remote(pod([(label::NAME, MANAGER)])), &[7050, 7053, 8443], &[7051, 9443]);
}

#[test]
fn scrapers_reach_operations_only_besides_what_is_open() {
    check(&remote(pod([(label::NAME, "prometheus")])), &[8443], &[7051, 9443]);
    let namespace = pod([(label::SCRAPE, "true")]);
    let scraper = Caller { pod: Labels::new(), namespace, here: false };
    check(&scraper, &[8443], &[7051, 9443]);
}

#[test]
fn clients_reach_the_orderers_when_they_are_labelled() {
    check(&remote(pod([(label::CLIENT, "true")])), &[7050], &[7051]);
    check(&remote(pod([(label::CLIENT, "false")])), &[], &[7051]);
    check(&remote(Labels::new()), &[], &[7051]);
    check(&local(Labels::new()), &[], &[7051]);
}

#[test]
fn a_policy_closes_ingress_and_leaves_egress_alone() {
    let spec = group(Holder::Organization("org1".to_owned())).spec.unwrap();
    assert_eq!(spec.policy_types.unwrap(), ["Ingress"]);
    assert!(spec.egress.is_none());
}

#[test]
fn only_peers_of_members_reach_a_program() {
    let mut program = crate::cluster::resources::chaincode::Program {
        chaincode: "asset".to_owned(),
        contract: "asset".to_owned(),
        version: "1".to_owned(),
        namespace: "ns".to_owned(),
        network: "net".to_owned(),
        channel: "supply".to_owned(),
        image: "i".to_owned(),
        env: Vec::new(),
        resources: None,
        package_id: "asset:1".to_owned(),
        replicas: 1,
        organizations: vec!["org2".to_owned(), "org1".to_owned(), "org1".to_owned()],
    };
    let open = |program: &crate::cluster::resources::chaincode::Program, caller: &Caller| {
        let owner = OwnerReference::default();
        open(&crate::cluster::resources::chaincode::policy(program, &owner), caller)
    };
    assert_eq!(open(&program, &local(peer("org1"))), [9999]);
    assert_eq!(open(&program, &local(peer("org2"))), [9999]);
    assert_eq!(open(&program, &local(peer("org3"))), Vec::<i32>::new());
    assert_eq!(open(&program, &local(orderer())), Vec::<i32>::new());
    assert_eq!(open(&program, &local(contract())), Vec::<i32>::new());
    assert_eq!(open(&program, &remote(peer("org1"))), Vec::<i32>::new());
    program.organizations.clear();
    assert_eq!(open(&program, &local(peer("org1"))), Vec::<i32>::new());
}
