//! Networks that grow and shrink under load, while the operator is killed again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use weft_client::Call;
use weft_e2e::cluster::fixture::{BASIC, CHANNEL, PEERS, READY};
use weft_e2e::cluster::load::ClusterLoad;
use weft_e2e::cluster::{Fixture, Namespace};
use weft_operator::cluster::names::Holder;

const ORGS: [&str; 2] = ["org1", "org2"];

/// An organization that is not in the example.
const THIRD: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: Organization
metadata: {name: org3}
spec:
  networkRef: basic
  mspId: Org3MSP
  users: [{name: user1}]
"#;

async fn orderers(namespace: &Namespace, replicas: u32) {
    let spec = json!({"spec": {"ordering": {"replicas": replicas}}});
    namespace.patch("LedgerNetwork", BASIC, spec).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    let status = namespace.get("LedgerNetwork", BASIC).await.unwrap()["status"].clone();
    assert_eq!(status["orderers"], format!("{replicas}/{replicas}"));
}

/// Every orderer takes part in the consensus and has every block.
async fn all_consent(namespace: &Namespace, replicas: u32) {
    for index in 0..replicas {
        let caught_up = async || {
            let participation = namespace.participation(BASIC, index).await?;
            let channel = weft_types::ChannelId::new(CHANNEL)?;
            let info = participation.channel(&channel).await?;
            let (height, _) = namespace.tip("org1", 0, CHANNEL).await?;
            Ok(info.filter(|one| {
                one.consensus_relation == "consenter"
                    && one.status == "active"
                    && one.height + 50 > height
            }))
        };
        namespace.until(&format!("orderer {index} to consent"), caught_up).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn orderers_go_from_three_to_five_and_back_under_load() {
    let Fixture { namespace, operator } = Fixture::shared("grow").await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let restless = operator.restless();
    orderers(&namespace, 5).await;
    load.progress(20).await.unwrap();
    all_consent(&namespace, 5).await;
    orderers(&namespace, 3).await;
    load.progress(20).await.unwrap();
    restless.rest().await.unwrap();
    all_consent(&namespace, 3).await;
    for index in 3..5 {
        let pod = format!("{}-0", Holder::Ordering(BASIC.to_owned()).node(index));
        namespace.until_gone("Pod", &pod).await.unwrap();
    }
    load.finish(&PEERS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn peers_go_from_one_to_three_under_load() {
    let Fixture { namespace, operator } = Fixture::shared("grow").await.unwrap();
    let peers = |replicas: u32| json!({"spec": {"peers": {"replicas": replicas}}});
    namespace.patch("Organization", "org2", peers(1)).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    namespace.until_gone("Pod", "org2-peer-1-0").await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let restless = operator.restless();
    namespace.patch("Organization", "org2", peers(3)).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    load.progress(20).await.unwrap();
    restless.rest().await.unwrap();
    load.finish(&[PEERS[0], ("org2", 0), ("org2", 1), ("org2", 2)]).await.unwrap();
    // The newest peer endorses: it has the contract, too.
    let gateway = namespace.gateway_of("org2", 2, "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["third", "v"])).await.unwrap();
    namespace.patch("Organization", "org2", peers(2)).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
}

/// The third organization reads what was written before it came, submits, and goes again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_organization_joins_a_running_channel() {
    let Fixture { namespace, operator } = Fixture::shared("grow").await.unwrap();
    let gateway = namespace.gateway("org1", "user1", CHANNEL).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["early", "v"])).await.unwrap();
    let load = ClusterLoad::start(&namespace, &ORGS, CHANNEL).await.unwrap();
    let restless = operator.restless();
    namespace.apply(THIRD).await.unwrap();
    let members = |names: &[&str]| json!({"spec": {"organizations": names}});
    let all = members(&["org1", "org2", "org3"]);
    namespace.patch("Channel", CHANNEL, all).await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
    restless.rest().await.unwrap();
    let peers = [PEERS[0], PEERS[1], PEERS[2], PEERS[3], ("org3", 0)];
    load.finish(&peers).await.unwrap();

    let third = namespace.gateway("org3", "user1", CHANNEL).await.unwrap();
    assert_eq!(third.evaluate(Call::new("asset", "Get", ["early"])).await.unwrap(), "v");
    third.submit(Call::new("asset", "Put", ["late", "v"])).await.unwrap();
    let approvals = namespace.get("Chaincode", "asset").await.unwrap();
    let approvals: &Value = &approvals["status"]["approvals"];
    assert_eq!(approvals["Org3MSP"], true, "{approvals}");

    namespace.patch("Channel", CHANNEL, members(&ORGS)).await.unwrap();
    namespace.wait_ready("Channel", CHANNEL, READY).await.unwrap();
    gateway.submit(Call::new("asset", "Put", ["after", "v"])).await.unwrap();
    let outside = third.submit(Call::new("asset", "Put", ["outside", "v"])).await;
    assert!(outside.is_err(), "it is no member any more");
    namespace.delete("Organization", "org3").await.unwrap();
    namespace.until_gone("Organization", "org3").await.unwrap();
    namespace.wait_all_ready(READY).await.unwrap();
}
