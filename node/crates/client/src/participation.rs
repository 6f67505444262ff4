//! An orderer's participation API: which channels it serves (Fabric:
//! `orderer/common/channelparticipation`).

use prost::Message;
use serde::Deserialize;
use weft_protos::common::Block;
use weft_rpc::https::{Client, ClientOptions, Part, Response};
use weft_rpc::tls::{ReloadingTls, RootSet};
use weft_types::ChannelId;

use crate::connection::ConnectionSpec;
use crate::error::ClientError;

/// What an orderer says of a channel.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelInfo {
    /// The channel.
    pub name: String,
    /// `consenter`, `follower`, `config-tracker` or `other`.
    #[serde(default)]
    pub consensus_relation: String,
    /// `active`, `onboarding`, `inactive` or `failed`.
    #[serde(default)]
    pub status: String,
    /// Number of blocks.
    #[serde(default)]
    pub height: u64,
    /// SHA-256 of the header of block 0, hexadecimal; an orderer of Weft says it once it has
    /// that block.
    #[serde(default)]
    pub genesis_hash: Option<String>,
    /// Why a channel whose status is `failed` is; an orderer of Weft says it.
    #[serde(default)]
    pub failure: Option<String>,
}

#[derive(Deserialize)]
struct ChannelList {
    #[serde(default)]
    channels: Option<Vec<ChannelName>>,
}

#[derive(Deserialize)]
struct ChannelName {
    name: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// An administrator's view of one orderer.
#[derive(Clone, Debug)]
pub struct Participation {
    address: String,
    client: Client,
}

impl Participation {
    /// The API at `spec.address`; the API asks for a client certificate.
    ///
    /// # Errors
    /// [`ClientError::Answer`] when a root certificate cannot be used.
    pub fn new(spec: &ConnectionSpec) -> Result<Participation, ClientError> {
        let roots = spec.roots.iter().map(|root| root.der().to_vec().into()).collect();
        let roots =
            RootSet::fixed(roots).map_err(|error| ClientError::answer(&spec.address, error))?;
        let tls = ReloadingTls::from_parts(spec.client.clone(), roots, RootSet::new());
        let mut client = Client::new(tls, ClientOptions::default());
        if let Some(name) = &spec.server_name {
            client = client.with_server_name(name);
        }
        Ok(Participation { address: spec.address.clone(), client })
    }

    /// Names of the orderer's channels.
    ///
    /// # Errors
    /// [`ClientError::Https`] or [`ClientError::Participation`].
    pub async fn channels(&self) -> Result<Vec<String>, ClientError> {
        let response = self.client.get(&self.url("")).await.map_err(self.failed())?;
        let list: ChannelList = self.read(response, 200)?;
        Ok(list.channels.unwrap_or_default().into_iter().map(|channel| channel.name).collect())
    }

    /// One channel, or `None` when the orderer has not joined it.
    ///
    /// # Errors
    /// [`ClientError::Https`] or [`ClientError::Participation`].
    pub async fn channel(&self, channel: &ChannelId) -> Result<Option<ChannelInfo>, ClientError> {
        let response =
            self.client.get(&self.url(&format!("/{channel}"))).await.map_err(self.failed())?;
        if response.status.as_u16() == 404 {
            return Ok(None);
        }
        self.read(response, 200).map(Some)
    }

    /// Joins the channel whose genesis (or later config) block this is.
    ///
    /// # Errors
    /// [`ClientError::Https`] or [`ClientError::Participation`].
    pub async fn join(&self, block: &Block) -> Result<ChannelInfo, ClientError> {
        let part = Part {
            name: "config-block".to_owned(),
            file_name: "config.block".to_owned(),
            content: block.encode_to_vec().into(),
        };
        let response = self
            .client
            .post_multipart(&self.url(""), std::slice::from_ref(&part))
            .await
            .map_err(self.failed())?;
        self.read(response, 201)
    }

    /// Leaves a channel and deletes its ledger.
    ///
    /// # Errors
    /// [`ClientError::Https`] or [`ClientError::Participation`].
    pub async fn remove(&self, channel: &ChannelId) -> Result<(), ClientError> {
        let response =
            self.client.delete(&self.url(&format!("/{channel}"))).await.map_err(self.failed())?;
        if response.status.is_success() { Ok(()) } else { Err(self.refused(&response)) }
    }

    /// The newest config block that the orderer has, or `None` when it has not joined the
    /// channel or has no block of it yet. Unlike Deliver this answers without a leader.
    /// An orderer of Weft is asked; Fabric's have no such path.
    ///
    /// # Errors
    /// [`ClientError::Https`], [`ClientError::Participation`] or [`ClientError::Answer`].
    pub async fn config_block(&self, channel: &ChannelId) -> Result<Option<Block>, ClientError> {
        let url = self.url(&format!("/{channel}/blocks/config"));
        let response = self.client.get(&url).await.map_err(self.failed())?;
        match response.status.as_u16() {
            404 => Ok(None),
            200 => Block::decode(response.body)
                .map(Some)
                .map_err(|error| ClientError::answer(&self.address, error)),
            _ => Err(self.refused(&response)),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/participation/v1/channels{path}", self.address)
    }

    fn failed(&self) -> impl FnOnce(weft_rpc::https::ClientError) -> ClientError + use<'_> {
        |source| ClientError::Https { node: self.address.clone(), source: Box::new(source) }
    }

    fn refused(&self, response: &Response) -> ClientError {
        let message = serde_json::from_slice::<Refusal>(&response.body)
            .map_or_else(|_| response.text(), |refusal| refusal.error);
        let status = response.status.as_u16();
        ClientError::Participation { node: self.address.clone(), status, message }
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        response: Response,
        expected: u16,
    ) -> Result<T, ClientError> {
        if response.status.as_u16() != expected {
            return Err(self.refused(&response));
        }
        serde_json::from_slice(&response.body)
            .map_err(|error| ClientError::answer(&self.address, error))
    }
}
