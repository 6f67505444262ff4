//! Capabilities: features that every node of a channel must support to take part in it.

use std::collections::BTreeSet;

use weft_protos::common;

/// Which part of the configuration a capability stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The root group: orderers and peers.
    Channel,
    /// The orderer group: orderers.
    Orderer,
    /// The application group: peers.
    Application,
}

impl Scope {
    /// The levels this node supports. Fabric: `common/capabilities/*.go`.
    #[must_use]
    pub fn supported(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"],
            Self::Orderer => &["V1_1", "V1_4_2", "V2_0"],
            Self::Application => &["V1_1", "V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"],
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Channel => "channel",
            Self::Orderer => "orderer",
            Self::Application => "application",
        })
    }
}

/// A channel asks for a feature that this node does not have: the node must not take part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to support the channel: {scope} capability {name} is required but unknown here")]
pub struct CapabilityError {
    /// Where the capability stands.
    pub scope: Scope,
    /// Its name.
    pub name: String,
}

/// The capabilities of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    scope: Scope,
    names: BTreeSet<String>,
}

impl Capabilities {
    /// Reads the capabilities of a group.
    ///
    /// # Errors
    /// Fails on a capability that this node does not support.
    pub fn new(scope: Scope, value: &common::Capabilities) -> Result<Self, CapabilityError> {
        let names: BTreeSet<String> = value.capabilities.keys().cloned().collect();
        match names.iter().find(|name| !scope.supported().contains(&name.as_str())) {
            Some(name) => Err(CapabilityError { scope, name: name.clone() }),
            None => Ok(Self { scope, names }),
        }
    }

    /// Where these capabilities stand.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether the capability `name` is listed.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// Channel: organizations may carry the endpoints of their orderers, and the consensus type may
    /// be changed (V1_4_2 and later).
    #[must_use]
    pub fn org_endpoints(&self) -> bool {
        self.has_any(&["V1_4_2", "V1_4_3", "V2_0", "V3_0"])
    }

    /// Channel: BFT is allowed and endpoints must stand with organizations only (V3_0).
    #[must_use]
    pub fn bft(&self) -> bool {
        self.has("V3_0")
    }

    /// Orderer: the consensus type and its state may be changed (V1_4_2 and later).
    #[must_use]
    pub fn consensus_migration(&self) -> bool {
        self.has_any(&["V1_4_2", "V2_0"])
    }

    /// Application: access control lists may stand in the configuration (V1_2 and later).
    #[must_use]
    pub fn acls(&self) -> bool {
        self.has_any(&["V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"])
    }

    /// Application: chaincode definitions are agreed by organizations, `_lifecycle` (V2_0 and later).
    #[must_use]
    pub fn lifecycle_v2(&self) -> bool {
        self.has_any(&["V2_0", "V2_5"])
    }

    /// Application: private data can be purged (V2_5).
    #[must_use]
    pub fn purge_private_data(&self) -> bool {
        self.has("V2_5")
    }
}
