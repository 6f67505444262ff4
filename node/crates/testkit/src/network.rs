//! Organizations and orderers with the channels they may have.

use std::time::Duration;

use weft_config::{
    BatchSize, Bundle, Consensus, Endpoint, RaftConfig, RaftConsenter, RaftOptions,
    consensus::{BftConsenter, BftOptions},
    genesis::{self, ApplicationProfile, ChannelProfile, OrdererProfile, OrgProfile},
};
use weft_msp::{NodeRole, SigningIdentity};
use weft_protos::common::{Block, Config};
use weft_types::ChannelId;

use crate::{
    clock::NOW,
    org::{Org, TlsIdentity},
};

/// Ports of orderers begin here, in configurations only: tests that listen choose their own ports and
/// set [`OrdererNode::endpoint`].
const FIRST_PORT: u16 = 7050;

/// An orderer.
#[derive(Clone)]
pub struct OrdererNode {
    /// Its name.
    pub name: String,
    /// Where it serves, clients and the other orderers alike.
    pub endpoint: Endpoint,
    /// What it signs blocks with.
    pub identity: SigningIdentity,
    /// Its TLS certificate, for both sides of a connection.
    pub tls: TlsIdentity,
}

impl OrdererNode {
    /// An orderer `number` of `org` on the loopback address.
    #[must_use]
    pub fn new(org: &Org, number: u16) -> Self {
        let name = format!("orderer{number}");
        Self {
            identity: org.identity(&name, NodeRole::Orderer),
            tls: org.tls(&name, &[&name]),
            endpoint: Endpoint::new("127.0.0.1", FIRST_PORT + number),
            name,
        }
    }

    /// It as a member of a Raft channel.
    #[must_use]
    pub fn consenter(&self) -> RaftConsenter {
        RaftConsenter {
            endpoint: self.endpoint.clone(),
            client_tls_cert: self.tls.cert_pem(),
            server_tls_cert: self.tls.cert_pem(),
        }
    }

    /// It as member `id` of a BFT channel.
    #[must_use]
    pub fn bft_consenter(&self, id: u32) -> BftConsenter {
        BftConsenter {
            id,
            endpoint: self.endpoint.clone(),
            msp_id: self.identity.msp_id().clone(),
            identity: self.identity.certificate().pem().into(),
            client_tls_cert: self.tls.cert_pem(),
            server_tls_cert: self.tls.cert_pem(),
        }
    }
}

/// One ordering organization with its orderers, and organizations that transact.
#[derive(Clone)]
pub struct Network {
    /// `OrdererMSP`, which runs all orderers.
    pub orderer_org: Org,
    /// The orderers.
    pub orderers: Vec<OrdererNode>,
    /// `Org1MSP`, `Org2MSP` and so on.
    pub orgs: Vec<Org>,
}

impl Network {
    /// A network of `orgs` organizations that transact and `orderers` orderers.
    #[must_use]
    pub fn new(orgs: usize, orderers: u16) -> Self {
        let orderer_org = Org::new("OrdererMSP");
        Self {
            orderers: (0..orderers).map(|number| OrdererNode::new(&orderer_org, number)).collect(),
            orgs: (1..=orgs).map(|number| Org::new(&format!("Org{number}MSP"))).collect(),
            orderer_org,
        }
    }

    /// The organization `Org<number>MSP`, from 1.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn org(&self, number: usize) -> &Org {
        number.checked_sub(1).and_then(|index| self.orgs.get(index)).expect("an organization")
    }

    /// The orderers' organization as it stands in the orderer group.
    #[must_use]
    pub fn orderer_org_profile(&self) -> OrgProfile {
        let endpoints = self.orderers.iter().map(|orderer| orderer.endpoint.clone()).collect();
        let org = &self.orderer_org;
        OrgProfile::ordering(&org.msp_id, org.msp_config(), endpoints)
    }

    /// An organization as it stands in the application group.
    #[must_use]
    pub fn org_profile(org: &Org) -> OrgProfile {
        OrgProfile::transacting(&org.msp_id, org.msp_config())
    }

    /// The profile of a channel with all organizations, ordered by Raft among all orderers, with
    /// short elections and batches for tests. Change it as the test needs.
    #[must_use]
    pub fn profile(&self, channel: &str) -> ChannelProfile {
        let consenters = self.orderers.iter().map(OrdererNode::consenter).collect();
        let options =
            RaftOptions { tick_interval: Duration::from_millis(50), ..RaftOptions::default() };
        self.profile_with(channel, Consensus::Raft(RaftConfig { consenters, options }))
    }

    /// The profile of a channel ordered by one node without agreement.
    #[must_use]
    pub fn solo_profile(&self, channel: &str) -> ChannelProfile {
        self.profile_with(channel, Consensus::Solo)
    }

    /// The profile of a BFT channel.
    #[must_use]
    pub fn bft_profile(&self, channel: &str) -> ChannelProfile {
        let mut profile = self.profile_with(channel, Consensus::Bft(BftOptions::default()));
        profile.orderer.consenters =
            (1..).zip(&self.orderers).map(|(id, orderer)| orderer.bft_consenter(id)).collect();
        profile
    }

    fn profile_with(&self, channel: &str, consensus: Consensus) -> ChannelProfile {
        let mut orderer = OrdererProfile::new(consensus, vec![self.orderer_org_profile()]);
        orderer.batch_timeout = Duration::from_millis(100);
        orderer.batch_size = BatchSize { max_message_count: 10, ..BatchSize::default() };
        let orgs = self.orgs.iter().map(Self::org_profile).collect();
        let channel = ChannelId::new(channel).expect("a valid channel id");
        ChannelProfile::new(channel, NOW, orderer, Some(ApplicationProfile::new(orgs)))
    }

    /// The first configuration of the channel of [`Self::profile`].
    #[must_use]
    pub fn config(&self, channel: &str) -> Config {
        genesis::config(&self.profile(channel)).expect("the profile is valid")
    }

    /// The genesis block of the channel of [`Self::profile`].
    #[must_use]
    pub fn genesis(&self, channel: &str) -> Block {
        genesis::block(&self.profile(channel)).expect("the profile is valid")
    }

    /// The bundle of the channel of [`Self::profile`].
    #[must_use]
    pub fn bundle(&self, channel: &str) -> Bundle {
        bundle(&self.profile(channel))
    }

    /// The administrators of all organizations, the ordering one first: together they may change
    /// anything.
    #[must_use]
    pub fn admins(&self) -> Vec<&SigningIdentity> {
        std::iter::once(&self.orderer_org).chain(&self.orgs).map(|org| &org.admin).collect()
    }
}

/// The bundle of a profile.
///
/// # Panics
/// Where the profile is not valid.
#[must_use]
pub fn bundle(profile: &ChannelProfile) -> Bundle {
    let config = genesis::config(profile).expect("the profile is valid");
    Bundle::new(profile.channel_id.clone(), config).expect("the configuration is valid")
}
