//! The application group: organizations that transact, and who may use the peers' resources.

use std::collections::BTreeMap;

use weft_protos::{common, peer};
use weft_types::MspId;

use crate::{
    bundle::ConfigError,
    capabilities::{Capabilities, Scope},
    keys,
    org::{MspCollector, Organization},
    value::GroupReader,
};

/// The application group. Fabric: `common/channelconfig/application.go`.
#[derive(Debug, Clone)]
pub struct ApplicationConfig {
    /// Organizations by the name of their group.
    pub orgs: BTreeMap<String, ApplicationOrg>,
    /// Policies (absolute path, or a name below `/Channel/Application`) of resources that do not
    /// keep their default, by resource name such as `qscc/GetBlockByNumber`.
    pub acls: BTreeMap<String, String>,
    /// What peers must support.
    pub capabilities: Capabilities,
}

/// An organization that transacts.
#[derive(Debug, Clone)]
pub struct ApplicationOrg {
    /// Its name and MSP.
    pub org: Organization,
    /// Peers that members of other organizations may meet first.
    pub anchor_peers: Vec<AnchorPeer>,
}

/// The address of a peer. Kept as it is written: peers with addresses that cannot be dialled are
/// the concern of those who dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnchorPeer {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: i32,
}

impl ApplicationConfig {
    /// The organization with the MSP id `id`.
    #[must_use]
    pub fn org_of(&self, id: &MspId) -> Option<&ApplicationOrg> {
        self.orgs.values().find(|org| org.org.msp_id == *id)
    }

    /// MSP ids of all organizations, in the order of their groups' names.
    pub fn msp_ids(&self) -> impl Iterator<Item = &MspId> {
        self.orgs.values().map(|org| &org.org.msp_id)
    }

    /// The policy that replaces the default one of `resource`, as an absolute path.
    /// Fabric: `common/channelconfig/api.go`.
    #[must_use]
    pub fn acl(&self, resource: &str) -> Option<String> {
        let policy = self.acls.get(resource)?;
        Some(match policy.starts_with('/') {
            true => policy.clone(),
            false => format!("/{}/{}/{policy}", keys::CHANNEL, keys::APPLICATION),
        })
    }

    pub(crate) fn read(
        group: &GroupReader<'_>,
        msps: &mut MspCollector,
    ) -> Result<Self, ConfigError> {
        group.only_values(&[keys::ACLS, keys::CAPABILITIES])?;
        let capabilities: common::Capabilities = group.value_or_default(keys::CAPABILITIES)?;
        let capabilities = Capabilities::new(Scope::Application, &capabilities)
            .map_err(|source| ConfigError::Capability { source })?;
        let acls = group.value::<peer::AcLs>(keys::ACLS)?;
        if acls.is_some() && !capabilities.acls() {
            return Err(ConfigError::AclsWithoutCapability);
        }
        let acls = acls.unwrap_or_default().acls;
        let acls = acls.into_iter().filter(|(_, policy)| !policy.policy_ref.is_empty());
        let mut orgs = BTreeMap::new();
        for (name, org) in &group.group.groups {
            orgs.insert(name.clone(), Self::org(name, &group.child(name, org), msps)?);
        }
        let acls = acls.map(|(resource, policy)| (resource, policy.policy_ref)).collect();
        Ok(Self { orgs, acls, capabilities })
    }

    fn org(
        name: &str,
        group: &GroupReader<'_>,
        msps: &mut MspCollector,
    ) -> Result<ApplicationOrg, ConfigError> {
        group.only_values(&[keys::MSP, keys::ANCHOR_PEERS])?;
        let org = msps.organization(name, group)?;
        let anchors: peer::AnchorPeers = group.value_or_default(keys::ANCHOR_PEERS)?;
        let anchor_peers = anchors.anchor_peers.into_iter();
        let anchor_peers =
            anchor_peers.map(|peer| AnchorPeer { host: peer.host, port: peer.port }).collect();
        Ok(ApplicationOrg { org, anchor_peers })
    }
}
