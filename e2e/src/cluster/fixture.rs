//! The networks that tests begin with.

use std::time::Duration;

use super::{Cluster, Namespace, Operator};

/// Three orderers, two organizations with two peers each, a channel and a contract: the file
/// that the first steps of the documentation apply.
pub const NETWORK: &str = include_str!("../../../examples/cluster/network.yaml");

/// The least that keeps a ledger.
pub const MINIMAL: &str = include_str!("../../../examples/cluster/minimal.yaml");

/// One orderer, one organization with one peer, a channel and a contract: what starts fastest.
pub const SMALL: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: LedgerNetwork
metadata: {name: small}
spec:
  ordering: {replicas: 1}
---
apiVersion: weft.dev/v1alpha1
kind: Organization
metadata: {name: org1}
spec:
  networkRef: small
  mspId: Org1MSP
  users: [{name: user1}]
---
apiVersion: weft.dev/v1alpha1
kind: Channel
metadata: {name: supply}
spec:
  networkRef: small
  organizations: [org1]
---
apiVersion: weft.dev/v1alpha1
kind: Chaincode
metadata: {name: asset}
spec:
  channelRef: supply
  version: "1.0"
  image: asset-contract:0.1.0
"#;

/// Name of the network in [`NETWORK`].
pub const BASIC: &str = "basic";
/// Name of the channel in every manifest here.
pub const CHANNEL: &str = "supply";
/// Peers of [`NETWORK`].
pub const PEERS: [(&str, u32); 4] = [("org1", 0), ("org1", 1), ("org2", 0), ("org2", 1)];
/// The image of nodes under its other name: what an upgrade goes to.
pub const NEXT_NODE: &str = "next/weft-node:0.1.0";
/// The contract's image under its other name.
pub const NEXT_CONTRACT: &str = "next/asset-contract:0.1.0";

/// Longest wait for a network to become ready: the machine may be slow and the programs
/// unoptimised.
pub const READY: Duration = Duration::from_secs(300);

/// An operator and a namespace with a network that is ready.
pub struct Fixture {
    /// The operator.
    pub operator: Operator,
    /// The namespace.
    pub namespace: Namespace,
}

impl Fixture {
    /// An operator, and an empty namespace of this test's own.
    ///
    /// # Errors
    /// What Helm or the API server says.
    pub async fn empty(name: &str) -> anyhow::Result<Fixture> {
        let cluster = Cluster::connect().await?;
        let operator = Operator::ensure(&cluster).await?;
        Ok(Fixture { operator, namespace: Namespace::new(&cluster, name).await? })
    }

    /// A manifest in a namespace of this test's own.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn own(name: &str, manifest: &str) -> anyhow::Result<Fixture> {
        let fixture = Fixture::empty(name).await?;
        fixture.namespace.apply(manifest).await?;
        fixture.namespace.wait_all_ready(READY).await?;
        Ok(fixture)
    }

    /// [`NETWORK`] in a namespace that tests share, one after the other. Each leaves it as it
    /// found it, but for what is in the ledger.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn shared(name: &str) -> anyhow::Result<Fixture> {
        let cluster = Cluster::connect().await?;
        let operator = Operator::ensure(&cluster).await?;
        let namespace = Namespace::shared(&cluster, name).await?;
        namespace.apply(NETWORK).await?;
        namespace.wait_all_ready(READY).await?;
        Ok(Fixture { operator, namespace })
    }
}
