//! What the runtime asks the peer about while it runs a proposal's contract.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use weft_ledger::state::{KvState, StateReader};
use weft_protos::peer::{ChaincodeInput, Response, SignedProposal};

use super::EndorserParts;
use super::admission::Admitted;
use crate::acl::PEER_CHAINCODE_TO_CHAINCODE;
use crate::blocking::Blocking;
use crate::chaincode::{
    BlockingState, CollectionAccess, Host, HostError, LedgerState, StateAccess, StateError, Target,
};
use crate::channel::Channel;
use crate::lifecycle::layout::{self, LayoutError, NAMESPACES, SEQUENCE};
use crate::lifecycle::state::{AccessError, ReadState};
use crate::lifecycle::{DefinitionError, Endorsable, NAMESPACE, SourcesError};
use crate::private::{Collection, collections};
use crate::syscc;

/// The key in a chaincode's namespace with the version for which it has been initialized.
/// Fabric: core/chaincode/chaincode_support.go.
pub(crate) const INITIALIZED: &str = "\u{0}\u{10ffff}initialized";

/// A chaincode that cannot be called. The texts reach clients, who know Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No channel is named.
    #[error("could not get channel config for channel ''")]
    NoChannel,
    /// This peer has not joined the channel.
    #[error("could not get channel config for channel '{0}'")]
    UnknownChannel(String),
    /// The sequence of its definition cannot be read.
    #[error("could not get current sequence for chaincode '{chaincode}': {source}")]
    Sequence {
        /// The chaincode.
        chaincode: String,
        /// Why not.
        source: LayoutError,
    },
    /// It is not defined, or this peer cannot run it.
    #[error("{0}")]
    Sources(#[source] SourcesError),
    /// Whether it is initialized cannot be told.
    #[error("could not get 'initialized' key: {0}")]
    Initialized(#[source] StateError),
    /// It cannot be marked as initialized.
    #[error("could not set 'initialized' key: {0}")]
    Initialize(#[source] StateError),
    /// It needs no initialization.
    #[error("chaincode '{0}' does not require initialization but called as init")]
    NoInit(String),
    /// It is initialized.
    #[error("chaincode '{0}' is already initialized but called as init")]
    AlreadyInitialized(String),
    /// It is not initialized.
    #[error("chaincode '{0}' has not been initialized for this version, must call as init first")]
    NotInitialized(String),
}

/// The peer, as a contract that runs for one proposal sees it.
pub(super) struct ProposalHost<'a> {
    parts: &'a EndorserParts,
    admitted: &'a Admitted,
    first: Option<First>,
}

/// The chaincode that the proposal is for, and the state on which it runs.
struct First {
    endorsable: Arc<Endorsable>,
    snapshot: KvState,
}

impl<'a> ProposalHost<'a> {
    pub(super) fn new(parts: &'a EndorserParts, admitted: &'a Admitted) -> Self {
        Self { parts, admitted, first: None }
    }

    /// What runs the chaincode that the proposal is for. It is remembered for the call itself.
    pub(super) fn look_up_first(
        &mut self,
        state: &mut LedgerState,
    ) -> Result<Arc<Endorsable>, ResolveError> {
        let (channel, chaincode) = (self.admitted.channel_id(), &self.admitted.proposal.chaincode);
        let channel = self.channel(channel)?;
        // All is read from one snapshot, so that nothing can change in between.
        let snapshot = state.simulator().state().clone();
        let found = self.find(&channel, chaincode, state, &snapshot)?;
        self.first = Some(First { endorsable: Arc::clone(&found), snapshot });
        Ok(found)
    }

    fn channel(&self, id: &str) -> Result<Arc<Channel>, ResolveError> {
        match &self.admitted.channel {
            Some(channel) if channel.id().as_str() == id => Ok(Arc::clone(channel)),
            _ => {
                let found = self.parts.channels.get_str(id);
                found.ok_or_else(|| ResolveError::UnknownChannel(id.to_owned()))
            }
        }
    }

    /// What runs a chaincode.
    fn look_up(
        &self,
        channel: &str,
        chaincode: &str,
        state: &mut dyn StateAccess,
    ) -> Result<Arc<Endorsable>, ResolveError> {
        let proposed = &self.admitted.proposal.chaincode;
        if let Some(first) = &self.first
            && chaincode == proposed
            && channel == self.admitted.channel_id()
        {
            return Ok(Arc::clone(&first.endorsable));
        }
        let channel = self.channel(channel)?;
        let newest = channel.ledger().state();
        self.find(&channel, chaincode, state, &newest)
    }

    /// What runs a chaincode as of `snapshot`. That its definition was read is recorded in `state`,
    /// so that a transaction is not valid when the definition changes before it is committed.
    fn find(
        &self,
        channel: &Channel,
        chaincode: &str,
        state: &mut dyn StateAccess,
        snapshot: &dyn StateReader,
    ) -> Result<Arc<Endorsable>, ResolveError> {
        let mut lifecycle = Recorded(state);
        let sequence = layout::read_number(&mut lifecycle, NAMESPACES, chaincode, SEQUENCE)
            .map_err(|source| ResolveError::Sequence { chaincode: chaincode.to_owned(), source })?;
        let found = self.parts.sources.endorsable(channel.id(), snapshot, chaincode, sequence);
        found.map_err(ResolveError::Sources)
    }

    /// Whether the channel's application group has one of these capabilities.
    fn has_capability(&self, channel: &str, names: &[&str]) -> bool {
        self.channel(channel).is_ok_and(|channel| {
            let bundle = channel.bundle();
            bundle.application().is_some_and(|application| {
                names.iter().any(|name| application.capabilities.has(name))
            })
        })
    }

    /// A collection as it was when the transaction began, on the proposal's channel. That the
    /// chaincode's definition is still the same is checked when the transaction is committed.
    fn find_collection(
        &self,
        channel: &Channel,
        chaincode: &str,
        name: &str,
    ) -> Result<Option<Collection>, DefinitionError> {
        let bundle = channel.bundle();
        match &self.first {
            Some(first) if channel.id().as_str() == self.admitted.channel_id() => {
                collections::find(&first.snapshot, &bundle, chaincode, name)
            }
            _ => collections::find(&channel.ledger().state(), &bundle, chaincode, name),
        }
    }

    /// What the proposal's creator may do with a collection of a channel, and whether this peer holds
    /// it: both by the collection's policy, under the channel's MSPs.
    fn access(&self, channel: &Channel, collection: &Collection) -> CollectionAccess {
        let bundle = channel.bundle();
        let for_members_only = collection.member_only_read || collection.member_only_write;
        let is_member =
            for_members_only && collection.admits(bundle.msps(), &self.admitted.creator);
        let own = self.parts.identity.current().authenticated();
        CollectionAccess {
            may_read: is_member || !collection.member_only_read,
            may_write: is_member || !collection.member_only_write,
            held: collection.admits(bundle.msps(), &own),
        }
    }

    fn target(
        &self,
        channel: &str,
        chaincode: &str,
        is_init: bool,
        state: &mut dyn StateAccess,
    ) -> Result<Target, ResolveError> {
        let found = self.look_up(channel, chaincode, state)?;
        check_init(chaincode, &found, is_init, state)?;
        Ok(Target::Contract { package_id: found.package_id.clone(), init: is_init })
    }
}

/// A required initialization comes first and once for each version.
fn check_init(
    chaincode: &str,
    found: &Endorsable,
    is_init: bool,
    state: &mut dyn StateAccess,
) -> Result<(), ResolveError> {
    let name = || chaincode.to_owned();
    if !found.init_required {
        return if is_init { Err(ResolveError::NoInit(name())) } else { Ok(()) };
    }
    let done = state.get_state(chaincode, INITIALIZED).map_err(ResolveError::Initialized)?;
    let done = done.is_some_and(|version| version == found.version.as_bytes());
    match (is_init, done) {
        (true, true) => Err(ResolveError::AlreadyInitialized(name())),
        (false, false) => Err(ResolveError::NotInitialized(name())),
        (false, true) => Ok(()),
        (true, false) => {
            let version = Bytes::copy_from_slice(found.version.as_bytes());
            state.put_state(chaincode, INITIALIZED, version).map_err(ResolveError::Initialize)
        }
    }
}

/// `_lifecycle` in a contract's simulation: reads are recorded.
struct Recorded<'a>(&'a mut dyn StateAccess);

impl ReadState for Recorded<'_> {
    fn read(&mut self, key: &str) -> Result<Option<Bytes>, AccessError> {
        self.0.get_state(NAMESPACE, key).map_err(AccessError::Contract)
    }
}

#[async_trait]
impl Host for ProposalHost<'_> {
    fn resolve(
        &self,
        channel: &str,
        chaincode: &str,
        is_init: bool,
        state: &mut dyn StateAccess,
    ) -> Result<Target, HostError> {
        if syscc::is_system(chaincode) {
            return Ok(Target::System);
        }
        self.target(channel, chaincode, is_init, state).map_err(|source| match source {
            // These are told as they are, the others with the place where they happened.
            ResolveError::NoInit(_)
            | ResolveError::AlreadyInitialized(_)
            | ResolveError::NotInitialized(_)
            | ResolveError::Initialized(_)
            | ResolveError::Initialize(_) => HostError::new(source.to_string()),
            source => HostError::new(format!(
                "[channel {channel}] failed to get chaincode container info for {chaincode}: {source}"
            )),
        })
    }

    fn check_call(
        &self,
        channel: &str,
        _chaincode: &str,
        _proposal: Option<&SignedProposal>,
    ) -> Result<(), HostError> {
        let channel = self.channel(channel).map_err(|e| HostError::new(e.to_string()))?;
        let bundle = channel.bundle();
        let (acl, creator, now) = (&self.parts.acl, &self.admitted.creator, self.admitted.now);
        let allowed = acl.check_authenticated(&bundle, PEER_CHAINCODE_TO_CHAINCODE, creator, now);
        allowed.map_err(|e| HostError::new(e.to_string()))
    }

    fn is_system(&self, chaincode: &str) -> bool {
        syscc::is_system(chaincode)
    }

    fn open_state(&self, channel: &str, tx_id: &str) -> Result<Box<BlockingState>, HostError> {
        let channel = self.channel(channel).map_err(|e| HostError::new(e.to_string()))?;
        let ledger = Arc::clone(channel.ledger());
        let state = LedgerState::new(ledger, tx_id, self.parts.keeps_history);
        Ok(Box::new(Blocking::new(state)))
    }

    async fn invoke_system(
        &self,
        _channel: &str,
        _tx_id: &str,
        chaincode: &str,
        _input: &ChaincodeInput,
        _proposal: Option<&SignedProposal>,
        _state: &mut BlockingState,
    ) -> Result<Response, HostError> {
        Err(HostError::new(format!("system chaincode {chaincode} cannot be called by a contract")))
    }

    fn key_level_endorsement(&self, channel: &str) -> bool {
        self.has_capability(channel, &["V1_3", "V1_4_2", "V2_0", "V2_5"])
    }

    fn purges_private_data(&self, channel: &str) -> bool {
        self.has_capability(channel, &["V2_5"])
    }

    fn collection(
        &self,
        channel: &str,
        chaincode: &str,
        collection: &str,
    ) -> Result<Option<CollectionAccess>, HostError> {
        let channel = self.channel(channel).map_err(|e| HostError::new(e.to_string()))?;
        let found = self.find_collection(&channel, chaincode, collection);
        let found = found.map_err(|e| HostError::new(e.to_string()))?;
        Ok(found.map(|found| self.access(&channel, &found)))
    }
}
