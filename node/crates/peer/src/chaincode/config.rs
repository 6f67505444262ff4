//! Settings of the chaincode runtime.

use std::time::Duration;

use weft_settings::PeerSettings;

/// Settings of the chaincode runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Time for a contract to answer one invocation.
    pub execute_timeout: Duration,
    /// Time for a contract to be reached and registered when it is first needed.
    pub startup_timeout: Duration,
    /// How often KEEPALIVE is sent to a contract; `None`, the default, never: fabric-shim for Node
    /// ends its process on that message. HTTP/2 pings find lost connections without it.
    pub keepalive: Option<Duration>,
    /// Depth of calls from contract to contract; 0 allows none.
    pub max_call_depth: usize,
    /// Most results of one query.
    pub total_query_limit: usize,
    /// Most results sent to a contract in one message, unless it asked for pages of its own.
    pub query_page_size: usize,
    /// Largest message to or from a contract, bytes.
    pub max_message_bytes: usize,
    /// Most streams of contracts that dial this peer.
    pub max_registrations: usize,
    /// Whether anybody may register under any id (`name:version`), installed or not, without a
    /// certificate (Fabric: peer `--peer-chaincodedev`).
    pub development: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            execute_timeout: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(10),
            keepalive: None,
            max_call_depth: 16,
            total_query_limit: 100_000,
            query_page_size: 1000,
            max_message_bytes: 100 * 1024 * 1024,
            max_registrations: 1024,
            development: false,
        }
    }
}

impl RuntimeConfig {
    /// Takes what concerns the runtime from a peer's settings.
    #[must_use]
    pub fn from_settings(settings: &PeerSettings) -> Self {
        let chaincode = &settings.chaincode;
        Self {
            execute_timeout: chaincode.execute_timeout,
            startup_timeout: chaincode.startup_timeout,
            keepalive: Some(chaincode.keepalive).filter(|d| !d.is_zero()),
            max_call_depth: chaincode.max_call_depth,
            development: chaincode.development,
            total_query_limit: settings.ledger.total_query_limit,
            query_page_size: settings.ledger.query_page_size,
            ..Self::default()
        }
    }
}
