//! `config.yaml`: organizational units (Fabric: msp/configbuilder.go, `Configuration`).

use std::{
    io,
    path::{Component, Path},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_protos::msp::{FabricNodeOUs, FabricOuIdentifier};

use super::{FolderError, entry, read_text};
use crate::identity::NodeRole;

/// A unit, and the authority it is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OuIdentifier {
    /// File of the authority's certificate, relative to the MSP directory; none ties the unit to no
    /// particular authority.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// Name of the unit.
    pub organizational_unit_identifier: String,
}

impl OuIdentifier {
    /// The unit `name`, tied to no particular authority.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { certificate: String::new(), organizational_unit_identifier: name.into() }
    }
}

/// The units that stand for roles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeOus {
    /// Whether identities are told apart by role.
    pub enable: bool,
    /// The unit of clients.
    #[serde(rename = "ClientOUIdentifier", skip_serializing_if = "Option::is_none")]
    pub client: Option<OuIdentifier>,
    /// The unit of peers.
    #[serde(rename = "PeerOUIdentifier", skip_serializing_if = "Option::is_none")]
    pub peer: Option<OuIdentifier>,
    /// The unit of administrators.
    #[serde(rename = "AdminOUIdentifier", skip_serializing_if = "Option::is_none")]
    pub admin: Option<OuIdentifier>,
    /// The unit of orderers.
    #[serde(rename = "OrdererOUIdentifier", skip_serializing_if = "Option::is_none")]
    pub orderer: Option<OuIdentifier>,
}

impl NodeOus {
    /// All four roles under their customary names, tied to the authority whose certificate is at
    /// `certificate`, relative to the MSP directory, or to none when that is empty.
    #[must_use]
    pub fn customary(certificate: &str) -> Self {
        let unit = |role: NodeRole| {
            let name = role.as_str().to_owned();
            Some(OuIdentifier {
                certificate: certificate.to_owned(),
                organizational_unit_identifier: name,
            })
        };
        Self {
            enable: true,
            client: unit(NodeRole::Client),
            peer: unit(NodeRole::Peer),
            admin: unit(NodeRole::Admin),
            orderer: unit(NodeRole::Orderer),
        }
    }
}

/// The file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigFile {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub(super) organizational_unit_identifiers: Vec<OuIdentifier>,
    #[serde(rename = "NodeOUs", skip_serializing_if = "Option::is_none")]
    pub(super) node_ous: Option<NodeOus>,
}

/// A key with nothing after it means an empty list to Fabric.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Units as they stand in a definition.
#[derive(Debug, Default)]
pub(super) struct DefinedUnits {
    pub(super) recognized: Vec<FabricOuIdentifier>,
    pub(super) nodes: Option<FabricNodeOUs>,
}

/// Reads `config.yaml`, and the certificates it names; nothing when there is no such file.
pub(super) fn load(dir: &Path) -> Result<DefinedUnits, FolderError> {
    let path = dir.join(entry::CONFIG);
    let text = match read_text(&path) {
        Err(FolderError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(DefinedUnits::default());
        }
        text => text?,
    };
    let file = ConfigFile::parse(&text)
        .map_err(|source| FolderError::Config { path: path.clone(), source })?;
    file.define(&|name| match is_within(name) {
        true => Ok(Bytes::copy_from_slice(read_text(&dir.join(name))?.as_bytes())),
        false => Err(FolderError::Outside { path: path.clone(), certificate: name.to_owned() }),
    })
}

impl ConfigFile {
    /// An empty text is a file that says nothing.
    pub(super) fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        let file: Option<Self> = serde_yaml::from_str(text)?;
        Ok(file.unwrap_or_default())
    }

    /// The units with the certificates that they are tied to, which `read` finds by name.
    pub(super) fn define<E>(
        &self,
        read: &impl Fn(&str) -> Result<Bytes, E>,
    ) -> Result<DefinedUnits, E> {
        let recognized = self.organizational_unit_identifiers.iter();
        let recognized = recognized.map(|unit| unit.define(read)).collect::<Result<_, _>>()?;
        let nodes = self.node_ous.as_ref().filter(|nodes| nodes.enable);
        let nodes = nodes.map(|nodes| nodes.define(read)).transpose()?;
        Ok(DefinedUnits { recognized, nodes })
    }
}

impl NodeOus {
    fn define<E>(&self, read: &impl Fn(&str) -> Result<Bytes, E>) -> Result<FabricNodeOUs, E> {
        let unit = |unit: &Option<OuIdentifier>| {
            let named =
                unit.as_ref().filter(|unit| !unit.organizational_unit_identifier.is_empty());
            named.map(|unit| unit.define(read)).transpose()
        };
        Ok(FabricNodeOUs {
            enable: true,
            client_ou_identifier: unit(&self.client)?,
            peer_ou_identifier: unit(&self.peer)?,
            admin_ou_identifier: unit(&self.admin)?,
            orderer_ou_identifier: unit(&self.orderer)?,
        })
    }
}

impl OuIdentifier {
    fn define<E>(&self, read: &impl Fn(&str) -> Result<Bytes, E>) -> Result<FabricOuIdentifier, E> {
        let certificate = match self.certificate.as_str() {
            "" => Bytes::new(),
            name => read(name)?,
        };
        Ok(FabricOuIdentifier {
            certificate,
            organizational_unit_identifier: self.organizational_unit_identifier.clone(),
        })
    }
}

fn is_within(name: &str) -> bool {
    Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
