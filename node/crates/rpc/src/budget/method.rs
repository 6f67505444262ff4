//! What a method takes, by its path.

use weft_protos::methods::{self, Requests};

use super::BudgetOptions;

/// Methods whose requests only ask: what they take is a name, a position, an identity.
const QUERIES: [&str; 7] = [
    "/discovery.Discovery/Discover",
    "/gateway.Gateway/ChaincodeEvents",
    "/gateway.Gateway/CommitStatus",
    "/orderer.AtomicBroadcast/Deliver",
    "/protos.Deliver/Deliver",
    "/protos.Deliver/DeliverFiltered",
    "/protos.Deliver/DeliverWithPrivateData",
];
/// Methods between nodes: what they take is large, from nodes that are known. The first message
/// says who is there.
const BETWEEN_NODES: [&str; 2] = ["/gossip.Gossip/GossipStream", "/orderer.Cluster/Step"];

/// What a method takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    /// How many messages.
    pub requests: Requests,
    /// Largest message of a known organization, bytes.
    pub limit: usize,
    /// Largest message of a stranger, bytes. Where transactions are taken it is the same: clients
    /// of Fabric have no TLS certificate, and sign what they send.
    pub stranger_limit: usize,
}

impl Method {
    pub(super) fn of(path: &str, options: &BudgetOptions) -> Self {
        let Some(requests) = methods::requests(path) else {
            // Answered with UNIMPLEMENTED, whatever is sent.
            return Self { requests: Requests::Many, limit: 0, stranger_limit: 0 };
        };
        let (query, message) = (options.max_query, options.max_message);
        let limit = if QUERIES.contains(&path) { query } else { message };
        let stranger_limit = if BETWEEN_NODES.contains(&path) { query } else { limit };
        Self { requests, limit, stranger_limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_named_here_exists() {
        for path in QUERIES.iter().chain(&BETWEEN_NODES) {
            assert!(methods::requests(path).is_some(), "{path}");
        }
    }
}
