//! Connections to the nodes of a local network, in the names of its administrators and users.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_client::{ClientError, Connection, ConnectionSpec, Gateway, Orderer, Participation, Peer};
use weft_crypto::Certificate;
use weft_types::{ChannelId, MspId};

use super::layout::{Layout, ORDERING};
use super::material::{self, MaterialError, OrgMaterial};
use super::nodes::Node;
pub use crate::cluster::identity::Actor;
use crate::model::Network;

/// Name of the administrator that every organization has.
pub const ADMIN: &str = "admin";

/// Reaches nodes; knows each organization's TLS root and administrator.
#[derive(Clone)]
pub struct Access {
    roots: BTreeMap<String, Certificate>,
    admins: BTreeMap<String, Actor>,
}

impl Access {
    /// Reads the administrators' keys.
    ///
    /// # Errors
    /// [`MaterialError`] names the file or key that cannot be read.
    pub fn new(
        layout: &Layout,
        organizations: &BTreeMap<String, OrgMaterial>,
    ) -> Result<Access, MaterialError> {
        let mut access = Access { roots: BTreeMap::new(), admins: BTreeMap::new() };
        for (name, material) in organizations {
            access.roots.insert(name.clone(), material.tls_root().clone());
            let admin = load_actor(layout, name, ADMIN, &material.msp_id)?;
            access.admins.insert(name.clone(), admin);
        }
        Ok(access)
    }

    /// Reads the keys of a network that is there already.
    ///
    /// # Errors
    /// [`MaterialError`] names the file or key that cannot be read.
    pub fn open(layout: &Layout, network: &Network) -> Result<Access, MaterialError> {
        let mut access = Access { roots: BTreeMap::new(), admins: BTreeMap::new() };
        let own = network.organizations.iter().map(|org| (org.name.as_str(), &org.msp_id));
        for (name, msp_id) in own.chain([(ORDERING, &network.ordering.msp_id)]) {
            access.roots.insert(name.to_owned(), material::load_tls_root(layout, name)?);
            access.admins.insert(name.to_owned(), load_actor(layout, name, ADMIN, msp_id)?);
        }
        Ok(access)
    }

    /// The administrator of an organization.
    pub fn admin(&self, organization: &str) -> Option<&Actor> {
        self.admins.get(organization)
    }

    /// A connection to a node's gRPC port as someone.
    ///
    /// # Errors
    /// [`ClientError`] when the certificates cannot be used. Nothing is dialled yet.
    pub fn connection(&self, node: &Node, actor: &Actor) -> Result<Connection, ClientError> {
        Connection::new(&self.spec(node, node.address(), actor))
    }

    /// A peer, asked by its own organization's administrator.
    ///
    /// # Errors
    /// As [`Access::connection`].
    pub fn peer(&self, node: &Node) -> Result<Peer, ClientError> {
        let actor = self.administrator(node)?;
        Ok(Peer::new(self.connection(node, actor)?, actor.signer.clone()))
    }

    /// An orderer, asked by the administrator of `organization`.
    ///
    /// # Errors
    /// As [`Access::connection`].
    pub fn orderer(&self, node: &Node, organization: &str) -> Result<Orderer, ClientError> {
        let actor = self.admin(organization).ok_or_else(|| no_admin(organization))?;
        Ok(Orderer::new(self.connection(node, actor)?, actor.signer.clone()))
    }

    /// An orderer's participation API, asked by the ordering organization's administrator.
    ///
    /// # Errors
    /// As [`Access::connection`].
    pub fn participation(&self, node: &Node) -> Result<Participation, ClientError> {
        let actor = self.administrator(node)?;
        Participation::new(&self.spec(node, node.participation(), actor))
    }

    /// A peer's Gateway, asked by its own organization's administrator.
    ///
    /// # Errors
    /// As [`Access::connection`].
    pub fn gateway(&self, node: &Node, channel: &ChannelId) -> Result<Gateway, ClientError> {
        let actor = self.administrator(node)?;
        let connection = self.connection(node, actor)?;
        Ok(Gateway::new(connection, channel.clone(), actor.signer.clone()))
    }

    fn administrator(&self, node: &Node) -> Result<&Actor, ClientError> {
        self.admin(&node.organization).ok_or_else(|| no_admin(&node.organization))
    }

    fn spec(&self, node: &Node, address: String, actor: &Actor) -> ConnectionSpec {
        ConnectionSpec {
            address,
            server_name: None,
            roots: self.roots.get(&node.organization).cloned().into_iter().collect(),
            client: Some(actor.tls.clone()),
        }
    }
}

/// Reads the keys of a user.
///
/// # Errors
/// [`MaterialError`] names the file or key that cannot be read.
pub fn load_actor(
    layout: &Layout,
    organization: &str,
    user: &str,
    msp_id: &MspId,
) -> Result<Actor, MaterialError> {
    let folder = layout.user(organization, user);
    Ok(Actor {
        signer: Arc::new(material::load_signer(&folder, msp_id)?),
        tls: material::load_client_tls(&folder)?,
    })
}

fn no_admin(organization: &str) -> ClientError {
    ClientError::Answer {
        node: organization.to_owned(),
        what: "the organization has no administrator here".to_owned(),
    }
}
