//! The objects of a namespace, and which of them a command means. Reading is at the top; what
//! follows is pure.

use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;

use super::context::{Context, patiently};
use super::error::ClusterError;
use crate::api::{Chaincode, Channel, LedgerNetwork, Organization};
use crate::cli::target::Wanted;

/// Objects of our kinds.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    /// Where they are.
    pub namespace: String,
    /// Networks, by name.
    pub networks: Vec<LedgerNetwork>,
    /// Organizations, by name.
    pub organizations: Vec<Organization>,
    /// Channels, by name.
    pub channels: Vec<Channel>,
    /// Chaincodes, by name.
    pub chaincodes: Vec<Chaincode>,
}

impl Objects {
    /// Reads them.
    ///
    /// # Errors
    /// [`ClusterError`] when they cannot be listed.
    pub(super) async fn read(context: &Context) -> Result<Objects, ClusterError> {
        patiently("reading the objects of the namespace", async {
            let (networks, organizations, channels, chaincodes) = tokio::try_join!(
                list::<LedgerNetwork>(context, "ledgernetworks"),
                list::<Organization>(context, "organizations"),
                list::<Channel>(context, "channels"),
                list::<Chaincode>(context, "chaincodes"),
            )?;
            let namespace = context.namespace.clone();
            Ok(Objects { namespace, networks, organizations, channels, chaincodes })
        })
        .await
    }

    /// Namespaces of the cluster that have networks; empty when the person may not know.
    pub(super) async fn elsewhere(context: &Context) -> Vec<String> {
        let all: Api<LedgerNetwork> = Api::all(context.client.clone());
        let found = all.list(&ListParams::default()).await.map(|list| list.items);
        let mut namespaces: Vec<String> =
            found.unwrap_or_default().iter().filter_map(ResourceExt::namespace).collect();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }
}

pub(super) async fn list<K>(context: &Context, plural: &str) -> Result<Vec<K>, ClusterError>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let step = format!("list {plural} in namespace {:?}", context.namespace);
    let mut found = context
        .api::<K>()
        .list(&ListParams::default())
        .await
        .map_err(ClusterError::at(step))?
        .items;
    found.sort_by_key(ResourceExt::name_any);
    Ok(found)
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// The member in whose name it is made.
    pub organization: Organization,
    /// Name of its user.
    pub user: String,
    /// The channel.
    pub channel: Channel,
    /// Name of the contract on the channel; empty when none is needed and there is none.
    pub chaincode: String,
}

impl Objects {
    /// What the flags mean; what they leave open is the only one that there is.
    ///
    /// # Errors
    /// [`ClusterError::Unknown`], [`ClusterError::None`], [`ClusterError::Several`].
    pub(super) fn choose(&self, wanted: &Wanted) -> Result<Choice, ClusterError> {
        let channel = self.channel(wanted)?;
        let chaincode = match wanted.needs_chaincode {
            true => self.chaincode(channel, wanted.chaincode.as_deref())?,
            false => wanted.chaincode.clone().unwrap_or_default(),
        };
        let organization = self.member(channel, wanted)?;
        let first = organization.spec.users.first().map(|user| user.name.as_str());
        let default = if wanted.as_admin { "admin" } else { first.unwrap_or("admin") };
        Ok(Choice {
            organization: organization.clone(),
            user: wanted.user.as_deref().unwrap_or(default).to_owned(),
            channel: channel.clone(),
            chaincode,
        })
    }

    fn channel(&self, wanted: &Wanted) -> Result<&Channel, ClusterError> {
        if let Some(name) = &wanted.channel {
            return self.named("channel", &self.channels, name);
        }
        // A contract that stands on one channel only says which one.
        if let Some(chaincode) = &wanted.chaincode {
            let mut homes = self.chaincodes.iter().filter(|one| contract(one) == *chaincode);
            if let (Some(one), None) = (homes.next(), homes.next()) {
                return self.named("channel", &self.channels, &one.spec.channel_ref);
            }
        }
        self.only("channel", "--channel", self.channels.iter().collect())
    }

    fn chaincode(&self, channel: &Channel, name: Option<&str>) -> Result<String, ClusterError> {
        // A contract need not be an object of ours: `qscc` is on every peer.
        if let Some(name) = name {
            return Ok(name.to_owned());
        }
        let on_channel = |one: &&Chaincode| one.spec.channel_ref == channel.name_any();
        let all: Vec<&Chaincode> = self.chaincodes.iter().filter(on_channel).collect();
        if all.len() > 1 {
            let known = all.iter().map(|one| contract(one)).collect();
            return Err(self.several("chaincode", "--chaincode", known));
        }
        self.only("chaincode", "--chaincode", all).map(contract)
    }

    fn member(&self, channel: &Channel, wanted: &Wanted) -> Result<&Organization, ClusterError> {
        if let Some(name) = &wanted.org {
            let organization = self.organization(name)?;
            if organization.spec.external.is_some() {
                let organization = organization.name_any();
                return Err(ClusterError::External { organization, wish: "using its peers" });
            }
            return Ok(organization);
        }
        let is_here = |one: &&Organization| {
            channel.spec.organizations.contains(&one.name_any())
                && one.spec.external.is_none()
                && one.spec.peers.replicas > 0
        };
        let mut members: Vec<&Organization> = self.organizations.iter().filter(is_here).collect();
        if wanted.any_member {
            members.truncate(1);
        }
        self.only("organization", "--org", members)
    }

    /// The organization of that name or MSP id.
    pub(super) fn organization(&self, name: &str) -> Result<&Organization, ClusterError> {
        match self.organizations.iter().find(|one| one.spec.msp_id == name) {
            Some(found) => Ok(found),
            None => self.named("organization", &self.organizations, name),
        }
    }

    /// The network of that name.
    pub(super) fn network(&self, name: &str) -> Result<&LedgerNetwork, ClusterError> {
        self.named("network", &self.networks, name)
    }

    fn named<'a, K: ResourceExt>(
        &self,
        what: &'static str,
        all: &'a [K],
        name: &str,
    ) -> Result<&'a K, ClusterError> {
        all.iter().find(|one| one.name_any() == name).ok_or_else(|| ClusterError::Unknown {
            what,
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            known: all.iter().map(ResourceExt::name_any).collect(),
        })
    }

    fn only<'a, K: ResourceExt>(
        &self,
        what: &'static str,
        flag: &'static str,
        all: Vec<&'a K>,
    ) -> Result<&'a K, ClusterError> {
        let namespace = self.namespace.clone();
        match all.as_slice() {
            [one] => Ok(one),
            [] => Err(ClusterError::None { what, namespace, elsewhere: Vec::new() }),
            several => {
                Err(self.several(what, flag, several.iter().map(|one| one.name_any()).collect()))
            }
        }
    }

    fn several(&self, what: &'static str, flag: &'static str, known: Vec<String>) -> ClusterError {
        ClusterError::Several { what, namespace: self.namespace.clone(), flag, known }
    }
}

/// A chaincode's name on its channel.
pub(super) fn contract(chaincode: &Chaincode) -> String {
    chaincode.spec.name.clone().unwrap_or_else(|| chaincode.name_any())
}

#[cfg(test)]
#[path = "objects_tests.rs"]
pub(super) mod tests;
