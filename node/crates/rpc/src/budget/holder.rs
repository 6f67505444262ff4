//! Whose share something is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use prost::Message;
use weft_protos::msp::SerializedIdentity;
use weft_types::MspId;

/// Bits of an IPv6 address that name a network; a host has all addresses in it (RFC 4291, 2.5.4).
const IPV6_PREFIX: u32 = 64;

/// Whose share something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Clients whose TLS certificates come from one CA, by the SHA-256 of its name and key.
    Authority([u8; 32]),
    /// An organization by its MSP id, after a signature of one of its identities was verified.
    Organization(Arc<str>),
    /// Whoever calls from an address, or an IPv6 network, and has proved nothing.
    Address(IpAddr),
}

impl Holder {
    /// An organization one of whose identities has signed. Only for signatures that were verified.
    #[must_use]
    pub fn organization(msp_id: &MspId) -> Self {
        Self::Organization(msp_id.as_str().into())
    }

    /// The organization of an encoded `msp.SerializedIdentity`. Only for identities whose signature
    /// was verified; those that name none count as one more.
    #[must_use]
    pub fn signer(identity: &[u8]) -> Self {
        let identity = SerializedIdentity::decode(identity).unwrap_or_default();
        Self::Organization(identity.mspid.into())
    }

    /// Whoever calls from an address.
    #[must_use]
    pub fn address(remote: SocketAddr) -> Self {
        Self::Address(match remote.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << (128 - IPV6_PREFIX));
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }

    /// Whether nothing was proved.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// As metrics' labels name it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        if self.is_stranger() { "stranger" } else { "organization" }
    }
}
