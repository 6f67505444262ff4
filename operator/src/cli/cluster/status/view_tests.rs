//! The status of the test manifest, as text and as JSON.

use super::super::super::objects::tests::objects;
use super::super::super::pods::tests::{pod, ready};
use super::*;

fn pods() -> Vec<Pod> {
    vec![
        ready("net-orderer-0", "orderer", ""),
        ready("net-orderer-1", "orderer", ""),
        pod("metadata: {name: net-orderer-2-0, labels: {weft.dev/node: net-orderer-2}}\n\
             status: {containerStatuses: [{name: node, image: a, imageID: a, ready: false, \
             restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}}]}\n"),
        ready("org1-peer-0", "peer", "org1"),
        ready("org1-peer-1", "peer", "org1"),
    ]
}

const TEXT: &str = "\
network net in ledger: not ready, 1 of 3 orderers is not ready
orderers 2/3, leader net-orderer-1, term 4

NODE           STATE             RESTARTS  LEDGERS
net-orderer-0  ready                    0  supply 119 (1 behind)
net-orderer-1  ready                    0  supply 120, leads
net-orderer-2  CrashLoopBackOff         4  supply ?
org1-peer-0    ready                    0  audit ?, supply 120
org1-peer-1    ready                    0  audit ?, supply 117 (3 behind)
org2-peer-0    no pod                      supply 120

ORGANIZATION  MSP         PEERS     READY    CERTIFICATES END
org1          Org1MSP     2/2       True     in 40 days
org2          Org2MSP     1/1       Unknown
partner       PartnerMSP  external  Unknown

CHANNEL  MEMBERS       HEIGHT  CONFIG  IN SYNC  READY
audit    org1,partner                  Unknown  Unknown
supply   org1,org2        120       3  Unknown  True

CHAINCODE  CHANNEL  VERSION  SEQUENCE  APPROVED  READY
asset_v2   supply   2.1             2  1/2       False
basic      supply   1.0                          Unknown
notary     audit    1.0                          Unknown

! LedgerNetwork net: OrderersReady is False for 2 min (Starting): net-orderer-2 is not ready
! Chaincode asset: Committed is False for 60 min (Approving): Org2MSP has not approved

first certificate to end: org1, 2026-01-01T00:00:00Z (in 40 days)
";

fn now() -> i64 {
    parse("2025-11-21T12:00:00Z").unwrap()
}

#[test]
fn text_tells_what_is_asked_daily() {
    assert_eq!(render(&networks(&objects(), &pods()), now()), TEXT);
}

#[test]
fn a_network_that_nobody_has_looked_at_says_so() {
    let mut objects = objects();
    objects.networks[0].status = None;
    objects.organizations.clear();
    objects.channels.clear();
    objects.networks[0].spec.ordering.replicas = 1;
    assert_eq!(
        render(&networks(&objects, &[]), now()),
        "network net in ledger: no status yet: is the operator running?\n\
         \n\
         NODE           STATE  RESTARTS  LEDGERS\n\
         net-orderer-0  -\n"
    );
}

#[test]
fn json_names_what_text_shows() {
    let json = serde_json::to_value(networks(&objects(), &pods())).unwrap();
    let network = &json[0];
    assert_eq!(network["leader"], "net-orderer-1");
    assert_eq!(network["nodes"][4]["ledgers"][1]["lag"], 3);
    assert_eq!(network["chaincodes"][0]["unapproved"][0], "Org2MSP");
    assert_eq!(network["problems"][0]["since"], "2025-11-21T11:58:00Z");
    assert_eq!(network["soonestExpiryOf"], "org1");
}
