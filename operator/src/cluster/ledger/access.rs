//! Connections to nodes, one a node and identity, kept between calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;
use weft_client::{
    ClientError, Connection, ConnectionSpec, Operations, Orderer, Participation, Peer,
};
use weft_config::Endpoint;
use weft_crypto::Certificate;
use weft_types::MspId;

use super::CALL;
pub use crate::cluster::identity::Actor;
use crate::cluster::topology::NodeKind;

/// A running node, as it is reached and recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: NodeKind,
    /// Who runs it: the name under which [`Access`] knows its TLS roots and administrator.
    pub holder: String,
    /// Its MSP.
    pub msp_id: MspId,
    /// Where it serves, as channel configs name it.
    pub endpoint: Endpoint,
    /// `host:port` at which its gRPC services are dialled from here.
    pub address: String,
    /// The name that its TLS certificate must hold.
    pub server_name: String,
    /// `host:port` of an orderer's participation API.
    pub participation: Option<String>,
    /// `host:port` of its operations, which serve plain HTTP here.
    pub operations: Option<String>,
}

/// What makes a connection another one: address, name, roots and who connects.
type Key = (String, String, Vec<[u8; 32]>, [u8; 32]);

/// Connections that are kept. A clone shares them; one is enough for a process.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<BTreeMap<Key, (Connection, Instant)>>>);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("kept", &self.len()).finish()
    }
}

impl Connections {
    /// Lets connections go that were not asked for within `unused`: their node, certificate or
    /// roots are others by now.
    pub fn prune(&self, unused: Duration) {
        self.0.lock().retain(|_, (_, used)| used.elapsed() < unused);
    }

    /// Number of connections kept.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget(&self, address: &str) {
        self.0.lock().retain(|key, _| key.0 != address);
    }

    fn get(&self, spec: &ConnectionSpec) -> Result<Connection, ClientError> {
        let key = (
            spec.address.clone(),
            spec.server_name.clone().unwrap_or_default(),
            spec.roots.iter().map(Certificate::fingerprint).collect(),
            spec.client.as_ref().map(|client| client.leaf_sha256()).unwrap_or_default(),
        );
        let mut kept = self.0.lock();
        if let Some((connection, used)) = kept.get_mut(&key) {
            *used = Instant::now();
            return Ok(connection.clone());
        }
        let connection = Connection::new(spec)?;
        kept.insert(key, (connection.clone(), Instant::now()));
        Ok(connection)
    }
}

/// What one organization, or the ordering service, brings along.
#[derive(Clone)]
struct Holder {
    msp_id: MspId,
    roots: Vec<Certificate>,
    admin: Option<Actor>,
}

/// Reaches nodes in the names of their holders' administrators. Cheap to make and to clone.
#[derive(Clone, Default)]
pub struct Access {
    connections: Connections,
    holders: BTreeMap<String, Holder>,
}

impl Access {
    /// Knows nobody yet.
    pub fn new(connections: Connections) -> Access {
        Access { connections, holders: BTreeMap::new() }
    }

    /// Also knows a holder: who may have signed its nodes' TLS certificates (roots and
    /// intermediates), and its administrator, if its keys are here.
    #[must_use]
    pub fn with_holder(
        mut self,
        holder: &str,
        msp_id: MspId,
        tls_roots: Vec<Certificate>,
        admin: Option<Actor>,
    ) -> Access {
        self.holders.insert(holder.to_owned(), Holder { msp_id, roots: tls_roots, admin });
        self
    }

    /// The administrator of a holder.
    pub fn admin(&self, holder: &str) -> Option<&Actor> {
        self.holders.get(holder)?.admin.as_ref()
    }

    /// The MSP of a holder.
    pub fn msp_id(&self, holder: &str) -> Option<&MspId> {
        self.holders.get(holder).map(|holder| &holder.msp_id)
    }

    /// An orderer, asked by the administrator of `holder`.
    ///
    /// # Errors
    /// [`ClientError`] when there is no such administrator or certificates cannot be used.
    /// Nothing is dialled yet.
    pub fn orderer(&self, node: &NodeRef, holder: &str) -> Result<Orderer, ClientError> {
        let actor = self.actor(holder)?;
        let connection = self.connections.get(&self.spec(node, &node.address, actor))?;
        Ok(Orderer::new(connection, actor.signer.clone()))
    }

    /// A peer, asked by its own holder's administrator.
    ///
    /// # Errors
    /// As [`Access::orderer`].
    pub fn peer(&self, node: &NodeRef) -> Result<Peer, ClientError> {
        let actor = self.actor(&node.holder)?;
        let connection = self.connections.get(&self.spec(node, &node.address, actor))?;
        Ok(Peer::new(connection, actor.signer.clone()))
    }

    /// An orderer's participation API, asked by its own holder's administrator. It connects
    /// anew for each request.
    ///
    /// # Errors
    /// As [`Access::orderer`]; also when the node has no such API.
    pub fn participation(&self, node: &NodeRef) -> Result<Participation, ClientError> {
        let actor = self.actor(&node.holder)?;
        let address = node.participation.as_deref().ok_or_else(|| ClientError::Answer {
            node: node.name.clone(),
            what: "it has no participation API".to_owned(),
        })?;
        Participation::new(&self.spec(node, address, actor))
    }

    /// A node's operations, if it serves them in the clear.
    pub fn operations(&self, node: &NodeRef) -> Option<Operations> {
        node.operations.as_deref().map(|address| Operations::new(address, CALL))
    }

    /// SHA-256 of the TLS certificate that a node serves with now.
    ///
    /// # Errors
    /// [`ClientError`] when it cannot be reached or shows a certificate that is not trusted.
    pub async fn served_tls(&self, node: &NodeRef) -> Result<[u8; 32], ClientError> {
        let actor = self.actor(&node.holder)?;
        let served = self.spec(node, &node.address, actor).served_certificate().await?;
        Ok(served.fingerprint())
    }

    /// A node's answer, if it comes within [`CALL`]. Else the connections to the node are let
    /// go: behind the same address there may be another one by now, of which a connection that
    /// nobody has closed does not hear.
    ///
    /// # Errors
    /// The call's own, and [`ClientError::Timeout`].
    pub(super) async fn within<T>(
        &self,
        node: &NodeRef,
        what: &'static str,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let Ok(answer) = timeout(CALL, call).await else {
            self.connections.forget(&node.address);
            let (node, seconds) = (node.name.clone(), CALL.as_secs());
            return Err(ClientError::Timeout { node, what, seconds });
        };
        answer
    }

    fn actor(&self, holder: &str) -> Result<&Actor, ClientError> {
        self.admin(holder).ok_or_else(|| ClientError::Answer {
            node: holder.to_owned(),
            what: "the organization has no administrator here".to_owned(),
        })
    }

    fn spec(&self, node: &NodeRef, address: &str, actor: &Actor) -> ConnectionSpec {
        let roots = self.holders.get(&node.holder).map(|holder| holder.roots.clone());
        ConnectionSpec {
            address: address.to_owned(),
            server_name: Some(node.server_name.clone()),
            roots: roots.unwrap_or_default(),
            client: Some(actor.tls.clone()),
        }
    }
}
