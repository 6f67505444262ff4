//! The messages and services of the wire protocol: Rust generated from the files in `proto/`,
//! which keep Fabric's package, message and field names, numbers and types. One module here is
//! one protobuf package; services come as generic clients and servers, without a transport.
//!
//! What holds for every message:
//! - `bytes` fields are [`bytes::Bytes`]: decoding from `Bytes` shares the buffer.
//! - Maps are `BTreeMap`, so equal values encode to equal bytes. Those bytes can differ from
//!   another implementation's in one legal way: a map entry's key or value is left out where
//!   it is the default (Go writes it, as in `Capabilities`).
//! - Unknown fields are dropped. So whatever is signed or hashed must travel as the bytes that
//!   arrived, never as a decoded value that is encoded again.
//!
//! - What comes from the network is measured before it is decoded ([`bound`]), by every client and
//!   server here.
//!
//! What messages mean, and whether they are acceptable, is for the crates that use them.

#![deny(rustdoc::broken_intra_doc_links)]

pub mod bound;
pub mod codec;
pub mod ext;
pub mod methods;

/// The generated modules, nested by package as the generated code expects to find them.
#[allow(clippy::all, missing_docs)]
mod wire {
    macro_rules! package {
        ($file:literal) => {
            include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
        };
    }

    /// Envelopes, blocks, channel configuration, policies and principals (package `common`).
    pub mod common {
        package!("common");
    }

    /// Queries about a channel's members and endorsers (package `discovery`).
    pub mod discovery {
        package!("discovery");
    }

    /// Settings and block metadata of Raft channels (package `etcdraft`).
    pub mod etcdraft {
        package!("etcdraft");
    }

    /// The clients' single point of contact (package `gateway`).
    pub mod gateway {
        package!("gateway");
    }

    /// Traffic between peers (package `gossip`).
    pub mod gossip {
        package!("gossip");
    }

    /// Reads and writes of keys (package `kvrwset`).
    pub mod kvrwset {
        package!("kvrwset");
    }

    /// Chaincode definitions and the system chaincode that keeps them (package `lifecycle`).
    pub mod lifecycle {
        package!("lifecycle");
    }

    /// Identities and the definitions of MSPs (package `msp`).
    pub mod msp {
        package!("msp");
    }

    /// Broadcast, deliver, cluster traffic and orderer settings (package `orderer`).
    pub mod orderer {
        package!("orderer");

        /// Settings of BFT channels (package `orderer.smartbft`).
        pub mod smartbft {
            package!("orderer.smartbft");
        }
    }

    /// Proposals, transactions, chaincode and block events (package `protos`).
    pub mod protos {
        package!("protos");
    }

    /// Results of ledger queries as chaincode sees them (package `queryresult`).
    pub mod queryresult {
        package!("queryresult");
    }

    /// Read-write sets by namespace (package `rwset`).
    pub mod rwset {
        package!("rwset");
    }

    /// Private data between endorsement and commit (package `transientstore`).
    pub mod transientstore {
        package!("transientstore");
    }
}

pub use wire::orderer::smartbft;
pub use wire::protos as peer;
pub use wire::{
    common, discovery, etcdraft, gateway, gossip, kvrwset, lifecycle, msp, orderer, queryresult,
    rwset, transientstore,
};
