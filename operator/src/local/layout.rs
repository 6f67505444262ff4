//! Where things stand in the folder of a local network.
//!
//! ```text
//! DIR/
//!   weft.yaml          the manifest that was last brought up
//!   state.json         ports, process ids, fingerprints of the CAs
//!   connection.json    what a client program needs
//!   ORGANIZATION/      `ordering`, or the name of an Organization
//!     ca/ tlsca/       ca.pem and key.pem of the two roots
//!     users/USER/      msp/ and tls/
//!     nodes/NODE/      msp/, tls/, node.yaml, data/, node.log
//!   channels/ID.block  the genesis block
//!   chaincodes/NAME/   chaincode.log, package.tar.gz
//! ```

use std::path::{Path, PathBuf};

use weft_types::ChannelId;

use crate::pki::RootUse;

/// Folder name of the organization that runs the orderers.
pub const ORDERING: &str = "ordering";

/// The folder of a local network.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The network in `root`, an absolute path.
    pub fn new(root: PathBuf) -> Self {
        Layout { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest that was last brought up.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("weft.yaml")
    }

    /// The runner's own record.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// What a client program needs.
    pub fn connection(&self) -> PathBuf {
        self.root.join("connection.json")
    }

    /// Taken by the one `weft` that changes the network.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// One of an organization's two roots.
    pub fn authority(&self, organization: &str, use_: RootUse) -> PathBuf {
        self.root.join(organization).join(use_.label())
    }

    /// A user of an organization.
    pub fn user(&self, organization: &str, user: &str) -> PathBuf {
        self.root.join(organization).join("users").join(user)
    }

    /// A node of an organization.
    pub fn node(&self, organization: &str, node: &str) -> PathBuf {
        self.root.join(organization).join("nodes").join(node)
    }

    /// A channel's genesis block.
    pub fn genesis(&self, channel: &ChannelId) -> PathBuf {
        self.root.join("channels").join(format!("{channel}.block"))
    }

    /// What an organization's processes of a contract that registers need.
    pub fn contract(&self, organization: &str, channel: &ChannelId, chaincode: &str) -> PathBuf {
        self.root.join(organization).join("contracts").join(format!("{channel}.{chaincode}"))
    }

    /// A chaincode's folder.
    pub fn chaincode(&self, channel: &ChannelId, chaincode: &str) -> PathBuf {
        self.root.join("chaincodes").join(format!("{channel}.{chaincode}"))
    }
}
