//! The peer of a ledger network. Each module is one of its services or one step of a
//! transaction's way through it.

pub mod acl;
pub mod blocking;
mod caller;
pub mod chaincode;
pub mod channel;
pub mod commit;
pub mod deliver;
pub mod deliver_client;
pub mod discovery;
pub mod endorser;
pub mod gateway;
pub mod lifecycle;
pub mod membership;
pub mod peer;
pub mod private;
pub mod syscc;
