//! Whose share of the peer a call takes (see [`weft_rpc::budget`]).

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tonic::Status;
use weft_rpc::budget::{Call, Holder};

/// The holder of a call that `identity` has signed, an encoded `msp.SerializedIdentity`, once its
/// signature was verified; `None` where nothing was verified. A caller that is known by its TLS
/// certificate stays what it is. What the call holds is its organization's from now on.
///
/// # Errors
/// RESOURCE_EXHAUSTED when the organization has its share.
pub(crate) fn of(call: Option<&Call>, identity: Option<&Bytes>) -> Result<Holder, Status> {
    let signer = identity.map(|identity| Holder::signer(identity));
    match (call, signer) {
        (Some(call), Some(signer)) => call.own(&signer),
        (Some(call), None) => Ok(call.holder()),
        (None, Some(signer)) => Ok(signer),
        (None, None) => Ok(Holder::address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))),
    }
}
