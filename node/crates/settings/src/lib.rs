//! Settings of an orderer and of a peer.
//!
//! Owns the shape of the node's YAML file (camelCase keys, unknown keys refused), the
//! defaults, the environment overrides and the checks between fields. It opens no file:
//! whoever calls it reads the YAML and passes the environment in, so the operator can
//! write the very types that the node reads.
//!
//! ```
//! use weft_settings::PeerSettings;
//!
//! let yaml = "
//! msp: { id: Org1MSP, dir: /etc/weft/msp }
//! externalAddress: peer0.org1.example:7051
//! tls: { cert: tls/server.crt, key: tls/server.key, rootCas: [tls/ca.crt] }
//! dataDir: /var/lib/weft
//! ";
//! let env = [("WEFT_LIMITS_MAX_CONNECTIONS".to_owned(), "64".to_owned())];
//! let settings = PeerSettings::load(yaml, env.into_iter())?;
//! assert_eq!(settings.limits.max_connections, 64);
//! # Ok::<(), weft_settings::SettingsError>(())
//! ```

pub mod duration;
mod load;
mod orderer;
mod peer;
mod shared;
mod validate;

pub use load::{SettingsError, ignored_overrides, override_names};
pub use orderer::{
    Batching, Cluster, OrdererLimits, OrdererSettings, Participation, RaftOverrides, Replication,
};
pub use peer::{
    Chaincode, DeliverClient, Discovery, Gateway, KnownPeer, LedgerOptions, PeerLimits,
    PeerSettings, PrivateData, Validation,
};
pub use shared::{
    ClientAuth, Keepalive, Limits, LogFile, LogFormat, Logging, Msp, Operations, OperationsTls,
    Storage, Tls,
};
pub use validate::Problem;
