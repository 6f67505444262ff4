//! Nodes of a network, reached with the identities that its Secrets hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Secret;
use weft_client::{Connection, ConnectionSpec, Gateway, Participation, Peer};
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::SigningIdentity;
use weft_operator::cluster::names::{self, Holder, key, port};
use weft_rpc::tls::TlsIdentity;
use weft_types::{ChannelId, MspId};

use super::Namespace;
use super::forward::Target;

/// Someone's keys and certificates, as their Secret has them.
pub struct Identity {
    /// The MSP.
    pub msp_id: MspId,
    /// PEM by key of the Secret.
    pub files: BTreeMap<String, String>,
}

impl Identity {
    /// One PEM file of it.
    ///
    /// # Errors
    /// When the Secret has no such key.
    pub fn file(&self, key: &str) -> anyhow::Result<&str> {
        self.files.get(key).map(String::as_str).with_context(|| format!("no {key} in the Secret"))
    }

    /// Signs in its name.
    ///
    /// # Errors
    /// When key and certificate do not fit.
    pub fn signer(&self) -> anyhow::Result<SigningIdentity> {
        let certificate = Certificate::from_pem(self.file(key::SIGN_CERT)?)?;
        let private = PrivateKey::from_pkcs8_pem(self.file(key::SIGN_KEY)?)?;
        Ok(SigningIdentity::new(self.msp_id.clone(), certificate, private)?)
    }

    /// A way to a node of the same holder.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn way_to(&self, address: String, host: String) -> anyhow::Result<ConnectionSpec> {
        let (cert, private) = (self.file(key::TLS_CERT)?, self.file(key::TLS_KEY)?);
        Ok(ConnectionSpec {
            address,
            server_name: Some(host),
            roots: Certificate::all_from_pem(self.file(key::TLS_CA_CERTS)?)?,
            client: Some(TlsIdentity::from_pem(cert.as_bytes(), private.as_bytes(), "Secret")?),
        })
    }
}

impl Namespace {
    /// The text of a Secret's data.
    ///
    /// # Errors
    /// When there is no such Secret, or it holds no text.
    pub async fn secret(&self, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let secret = self.typed::<Secret>().get(name).await;
        let data = secret.with_context(|| format!("failed to get Secret {name}"))?.data;
        let text = |(key, value): (String, k8s_openapi::ByteString)| {
            Ok((key, String::from_utf8(value.0)?))
        };
        data.unwrap_or_default().into_iter().map(text).collect()
    }

    /// A holder's user.
    ///
    /// # Errors
    /// When the holder or the user is not there.
    pub async fn user(&self, holder: &Holder, user: &str) -> anyhow::Result<Identity> {
        let msp_id = match holder {
            Holder::Organization(name) => {
                self.get("Organization", name).await?["spec"]["mspId"].clone()
            }
            Holder::Ordering(name) => {
                let network = self.get("LedgerNetwork", name).await?;
                network["spec"]["ordering"]["mspId"].clone()
            }
        };
        // An API server fills the default in.
        let msp_id = MspId::new(msp_id.as_str().unwrap_or("OrdererMSP"))?;
        Ok(Identity { msp_id, files: self.secret(&holder.user(user)).await? })
    }

    /// The Gateway of an organization's peers, through their Service.
    ///
    /// # Errors
    /// When the user has no identity.
    pub async fn gateway(&self, org: &str, user: &str, channel: &str) -> anyhow::Result<Gateway> {
        let holder = Holder::Organization(org.to_owned());
        let target = Target::Service(holder.group(), port::PEER);
        let host = names::service_host(&holder.group(), self.name());
        self.gateway_at(&holder, user, channel, target, host).await
    }

    /// The Gateway of one peer.
    ///
    /// # Errors
    /// When the user has no identity.
    pub async fn gateway_of(
        &self,
        org: &str,
        index: u32,
        user: &str,
        channel: &str,
    ) -> anyhow::Result<Gateway> {
        let holder = Holder::Organization(org.to_owned());
        let node = holder.node(index);
        let host = names::service_host(&node, self.name());
        let target = Target::Pod(format!("{node}-0"), port::PEER);
        self.gateway_at(&holder, user, channel, target, host).await
    }

    async fn gateway_at(
        &self,
        holder: &Holder,
        user: &str,
        channel: &str,
        target: Target,
        host: String,
    ) -> anyhow::Result<Gateway> {
        let identity = self.user(holder, user).await?;
        let address = self.forward(target).await?;
        let connection = Connection::new(&identity.way_to(address, host)?)?;
        Ok(Gateway::new(connection, ChannelId::new(channel)?, Arc::new(identity.signer()?)))
    }

    /// One peer, asked by its organization's administrator.
    ///
    /// # Errors
    /// When the administrator has no identity.
    pub async fn peer(&self, org: &str, index: u32) -> anyhow::Result<Peer> {
        let holder = Holder::Organization(org.to_owned());
        let admin = self.user(&holder, "admin").await?;
        let spec = self.way(&holder, index, port::PEER, &admin).await?;
        Ok(Peer::new(Connection::new(&spec)?, Arc::new(admin.signer()?)))
    }

    /// An orderer's participation API, asked by the ordering service's administrator.
    ///
    /// # Errors
    /// When the administrator has no identity.
    pub async fn participation(&self, network: &str, index: u32) -> anyhow::Result<Participation> {
        let holder = Holder::Ordering(network.to_owned());
        let admin = self.user(&holder, "admin").await?;
        Ok(Participation::new(&self.way(&holder, index, port::PARTICIPATION, &admin).await?)?)
    }

    async fn way(
        &self,
        holder: &Holder,
        index: u32,
        port: u16,
        admin: &Identity,
    ) -> anyhow::Result<ConnectionSpec> {
        let node = holder.node(index);
        let address = self.forward(Target::Pod(format!("{node}-0"), port)).await?;
        admin.way_to(address, names::service_host(&node, self.name()))
    }

    /// Height and newest block's hash of a peer's ledger.
    ///
    /// # Errors
    /// When the peer does not tell.
    pub async fn tip(
        &self,
        org: &str,
        index: u32,
        channel: &str,
    ) -> anyhow::Result<(u64, Vec<u8>)> {
        let info = self.peer(org, index).await?.chain_info(&ChannelId::new(channel)?).await?;
        Ok((info.height, info.current_block_hash.to_vec()))
    }

    /// Height of a channel at an orderer.
    ///
    /// # Errors
    /// When the orderer does not tell, or has not joined.
    pub async fn orderer_height(
        &self,
        network: &str,
        index: u32,
        channel: &str,
    ) -> anyhow::Result<u64> {
        let participation = self.participation(network, index).await?;
        let info = participation.channel(&ChannelId::new(channel)?).await?;
        Ok(info.context("the orderer has not joined")?.height)
    }

    /// Waits until all these peers have the same height, and gives it with the newest block's
    /// hash, which must be the same too.
    ///
    /// # Errors
    /// When they do not come together in time, or differ.
    pub async fn settled(
        &self,
        peers: &[(&str, u32)],
        channel: &str,
    ) -> anyhow::Result<(u64, Vec<u8>)> {
        let tips = self
            .until("peers of one height", async || {
                let mut tips = Vec::new();
                for (org, index) in peers {
                    tips.push(self.tip(org, *index, channel).await?);
                }
                let same = tips.windows(2).all(|pair| pair[0].0 == pair[1].0);
                Ok(same.then_some(tips))
            })
            .await?;
        let first = tips.first().cloned().context("no peer")?;
        if tips.iter().any(|tip| *tip != first) {
            bail!("peers differ at height {}", first.0);
        }
        Ok(first)
    }

    /// Hash of the header of a channel's first block, as a peer has it.
    ///
    /// # Errors
    /// When the peer does not tell.
    pub async fn genesis_hash(&self, org: &str, channel: &str) -> anyhow::Result<Vec<u8>> {
        let channel = ChannelId::new(channel)?;
        let second = self.peer(org, 0).await?.block(&channel, 1).await?;
        Ok(second.header.context("a block without header")?.previous_hash.to_vec())
    }
}
