//! System chaincodes: functions of the peer itself, called with proposals like contracts.
//!
//! - `cscc` joins channels and tells their configuration;
//! - `qscc` reads blocks and transactions;
//! - `_lifecycle` installs and defines chaincodes; what its functions do is in
//!   [`crate::lifecycle`].
//!
//! Here arguments are read, access is checked (resource `<chaincode>/<function>`) and results are
//! encoded. Contracts cannot call system chaincodes: Fabric refuses that for `cscc` and `qscc`, and
//! a contract has no use for `_lifecycle` (Fabric: core/scc).
//!
//! Ledgers are reached through [`Blocking`] only: a call has the configuration of its channel at hand,
//! and whatever is stored behind the door.

mod cscc;
mod lifecycle;
mod qscc;

use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_msp::Authenticated;
use weft_protos::peer::Response;
use weft_types::Timestamp;

use crate::acl::{Acl, AclError};
use crate::blocking::Blocking;
use crate::chaincode::LedgerState;
use crate::channel::{Channel, Channels};
use crate::lifecycle::{Installed, NAMESPACE, Sources};

/// The chaincode of channels.
pub const CSCC: &str = "cscc";
/// The chaincode of ledger queries.
pub const QSCC: &str = "qscc";
/// The version that system chaincodes have in endorsements. Fabric: core/scc/scc.go.
pub const VERSION: &str = "syscc";

/// Whether the peer runs `chaincode` itself.
#[must_use]
pub fn is_system(chaincode: &str) -> bool {
    matches!(chaincode, CSCC | QSCC | NAMESPACE)
}

/// Whether `chaincode` reads and writes through a simulation. The queries of `cscc` and `qscc` do
/// not, so their endorsements carry an empty read-write set.
#[must_use]
pub fn simulates(chaincode: &str) -> bool {
    !matches!(chaincode, CSCC | QSCC)
}

/// The system chaincodes of a peer.
#[derive(Clone)]
pub struct SystemChaincodes {
    channels: Arc<Channels>,
    acl: Acl,
    installed: Installed,
    answer_bytes: usize,
}

/// Largest answer of `qscc` by default, bytes. A proposal response has it twice: for the client, and
/// in what is signed.
const ANSWER_BYTES: usize = 48 * 1024 * 1024;

/// One call of a system chaincode.
pub struct SystemCall<'a> {
    /// The chaincode.
    pub chaincode: &'a str,
    /// Function name and arguments.
    pub args: &'a [Bytes],
    /// The configuration of the channel that the proposal names, if it names one.
    pub channel: Option<&'a Bundle>,
    /// Who calls; the signature over the proposal is verified.
    pub creator: &'a Authenticated,
    /// When.
    pub now: Timestamp,
}

impl SystemCall<'_> {
    fn function(&self) -> std::borrow::Cow<'_, str> {
        self.args.first().map(|name| String::from_utf8_lossy(name)).unwrap_or_default()
    }

    fn text(&self, index: usize) -> Option<std::borrow::Cow<'_, str>> {
        self.args.get(index).map(|arg| String::from_utf8_lossy(arg))
    }
}

impl SystemChaincodes {
    /// The system chaincodes of a peer with these channels and packages. Packages may have
    /// `max_package_bytes`.
    #[must_use]
    pub fn new(
        channels: Arc<Channels>,
        acl: Acl,
        sources: Arc<Sources>,
        max_package_bytes: usize,
    ) -> Self {
        let installed = Installed::new(sources, Arc::clone(&channels), max_package_bytes);
        Self { channels, acl, installed, answer_bytes: ANSWER_BYTES }
    }

    /// Limits answers by the largest message of the peer, bytes.
    #[must_use]
    pub fn with_message_limit(self, max_message_bytes: usize) -> Self {
        // Signatures and headers take little beside two copies.
        Self { answer_bytes: (max_message_bytes / 25 * 12).min(ANSWER_BYTES), ..self }
    }

    /// Runs a call. Failures are responses of status 500, as contracts' are.
    pub async fn invoke(
        &self,
        call: SystemCall<'_>,
        state: Option<&mut Blocking<LedgerState>>,
    ) -> Response {
        match call.chaincode {
            CSCC => self.cscc(&call).await,
            QSCC => self.qscc(&call).await,
            NAMESPACE => self.lifecycle(&call, state).await,
            other => error(format!("there is no system chaincode {other}")),
        }
    }

    /// The channel of that name, if this peer has it.
    fn named(&self, name: &str) -> Option<Named> {
        let channel = self.channels.get_str(name)?;
        Some(Named { bundle: channel.bundle(), stored: Blocking::new(channel) })
    }

    /// Access to a resource of the channel, or of the peer when that is what the resource asks for.
    /// The channel is that of the call, which need not be that of the proposal; the caller is read by
    /// its MSPs.
    fn check(&self, call: &SystemCall<'_>, channel: Option<&Bundle>) -> Result<(), AclError> {
        let resource = format!("{}/{}", call.chaincode, call.function());
        match channel {
            Some(bundle) => self.acl.check_authenticated(bundle, &resource, call.creator, call.now),
            None => self.acl.check_local_authenticated(&resource, call.creator, call.now),
        }
    }
}

/// A channel that an argument names.
struct Named {
    bundle: Arc<Bundle>,
    /// The channel with its ledger.
    stored: Blocking<Arc<Channel>>,
}

/// A result.
fn success(payload: impl Into<Bytes>) -> Response {
    Response { status: 200, message: String::new(), payload: payload.into() }
}

/// A failure.
fn error(message: impl Into<String>) -> Response {
    Response { status: 500, message: message.into(), payload: Bytes::new() }
}
