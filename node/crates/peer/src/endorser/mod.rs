//! The endorser: it runs a client's proposal on the state as it is now, and signs what came out.
//!
//! A proposal is checked (`admission`), its chaincode is run by [`crate::chaincode`] or
//! [`crate::syscc`] on a simulation, and the result is signed. Nothing is changed by it: results
//! take effect when they come back in a block (Fabric: core/endorser).
//!
//! Private values that were written are kept in the transient store and given to other members of
//! their collections (`distribution`) before the result is signed: who gets an endorsement can
//! count on as many peers having the values as the collection asks for.
//!
//! # What callers see
//!
//! | What is wrong | Answer |
//! | --- | --- |
//! | the proposal cannot be read, or its id, time, creator or signature is not good | an error |
//! | the creator may not propose, or the transaction is on the ledger | an error |
//! | the channel or the chaincode does not exist, or the chaincode cannot be run | a response of status 500, not endorsed |
//! | the chaincode answers with status 400 to 499 | its response alone |
//! | the chaincode answers with status 500 and more | its response and what was simulated, not endorsed |
//! | too many proposals at once | an error, RESOURCE_EXHAUSTED |
//!
//! A proposal without a channel is for the peer as a whole; its response is never endorsed.
//!
//! # Where this differs from Fabric
//!
//! - Endorsement plugins other than the default cannot be loaded: a definition that names one is
//!   endorsed by the default.
//! - What `_lifecycle` writes to collections stays at this peer; see [`crate::lifecycle`].
//! - Private values of a response that is an error are neither kept nor given to others.

mod admission;
mod distribution;
mod error;
mod host;
mod interest;
mod metrics;
mod service;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use prost::Message;
use weft_ledger::SimulationResults;
use weft_msp::CurrentIdentity;
use weft_protos::peer::{
    ChaincodeEvent, ChaincodeId, ChaincodeInterest, ProposalResponse, Response, SignedProposal,
};
use weft_protos::rwset::TxPvtReadWriteSet;
use weft_rpc::budget::{self, Holder, Refusals, Slot, Slots};
use weft_types::Timestamp;
use weft_types::proposal::{self, Simulation};

use crate::acl::Acl;
use crate::blocking::{Blocking, blocking};
use crate::chaincode::{Call, LedgerState, Outcome, Runtime};
use crate::channel::{Channel, Channels};
use crate::commit::private;
use crate::lifecycle::Sources;
use crate::private::Exchange;
use crate::private::exchange::Push;
use crate::syscc::{self, SystemCall, SystemChaincodes};

use admission::Admitted;
use host::ProposalHost;

pub use distribution::DistributionError;
pub use error::{EndorserError, RunError};
pub use host::ResolveError;
pub use interest::InterestError;
pub use metrics::EndorserMetrics;

/// From this status on a chaincode's response is an error, and is not endorsed.
pub const ERROR_THRESHOLD: i32 = 400;
/// From this status on a chaincode's response is a failure. Fabric: shim.ERROR.
pub const ERROR: i32 = 500;
/// How far a proposal's time may be from the peer's clock by default, as in Fabric.
pub const TIME_WINDOW: Duration = Duration::from_secs(15 * 60);

/// What an endorser is put together from.
#[derive(Clone)]
pub struct EndorserParts {
    /// The channels of the peer.
    pub channels: Arc<Channels>,
    /// Who may propose.
    pub acl: Acl,
    /// Runs contracts.
    pub runtime: Runtime,
    /// Gives private values to other members of their collections; without it they stay here.
    pub exchange: Option<Arc<dyn Exchange>>,
    /// Runs system chaincodes.
    pub system: SystemChaincodes,
    /// Which package runs a chaincode.
    pub sources: Arc<Sources>,
    /// The peer's identity.
    pub identity: CurrentIdentity,
    /// Whether contracts may ask for the history of keys.
    pub keeps_history: bool,
    /// Proposals at work at one time; more are refused.
    pub max_concurrent: usize,
    /// How far a proposal's time may be from the peer's clock.
    pub time_window: Duration,
}

/// The endorser. Clones share everything.
#[derive(Clone)]
pub struct Endorser {
    parts: Arc<EndorserParts>,
    slots: Slots,
    metrics: Option<EndorserMetrics>,
}

/// What running a chaincode came to.
struct Run {
    response: Response,
    event: Option<ChaincodeEvent>,
    results: SimulationResults,
    /// Private writes for other members of their collections.
    pushes: Vec<Push>,
    interest: Option<ChaincodeInterest>,
    version: String,
}

impl Endorser {
    /// An endorser of these parts.
    #[must_use]
    pub fn new(parts: EndorserParts) -> Self {
        let slots = Slots::new("endorsements", parts.max_concurrent);
        Self { parts: Arc::new(parts), slots, metrics: None }
    }

    /// Counts and times proposals.
    #[must_use]
    pub fn with_metrics(self, metrics: EndorserMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Counts proposals that find no slot.
    #[must_use]
    pub fn counted(self, refusals: &Refusals) -> Self {
        Self { slots: self.slots.counted(refusals), ..self }
    }

    /// Answers a proposal as of now. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`EndorserError`] for a proposal that is not acceptable. What goes wrong later is told in
    /// the response.
    pub async fn process(&self, signed: SignedProposal) -> Result<ProposalResponse, EndorserError> {
        self.process_call(signed, None, Timestamp::from_system_time(SystemTime::now())).await
    }

    /// As [`process`](Self::process), at a given time.
    ///
    /// # Errors
    /// See [`process`](Self::process).
    pub async fn process_at(
        &self,
        signed: SignedProposal,
        now: Timestamp,
    ) -> Result<ProposalResponse, EndorserError> {
        self.process_call(signed, None, now).await
    }

    /// Answers the proposal of a call. Its slot is one of the organization whose client has signed
    /// it, and is taken when that was verified.
    async fn process_call(
        &self,
        signed: SignedProposal,
        call: Option<&budget::Call>,
        now: Timestamp,
    ) -> Result<ProposalResponse, EndorserError> {
        if let Some(metrics) = &self.metrics {
            metrics.received();
        }
        let refused = |error: EndorserError| {
            if let Some(metrics) = &self.metrics {
                metrics.refused(&error);
            }
            weft_rpc::sampled!(warn, "proposal", reason = %error, "refused a proposal");
            error
        };
        match blocking(|| admission::admit(&self.parts, signed, now)).await {
            Ok(admitted) => {
                let _slot = self.slot(&admitted, call).map_err(refused)?;
                Ok(self.answer(&admitted).await)
            }
            Err(EndorserError::UnknownChannel { channel }) => {
                Ok(failure(format!("channel '{channel}' not found")))
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn slot(
        &self,
        admitted: &Admitted,
        call: Option<&budget::Call>,
    ) -> Result<Slot, EndorserError> {
        let creator = Holder::organization(admitted.creator.claimed_msp_id());
        let owned = call.map(|call| call.own(&creator)).transpose();
        let limit = self.parts.max_concurrent;
        owned.map_err(|_| EndorserError::Busy { limit })?;
        self.slots.enter(&creator).map_err(|_| EndorserError::Busy { limit })
    }

    /// Answers an acceptable proposal; what goes wrong becomes a response.
    async fn answer(&self, admitted: &Admitted) -> ProposalResponse {
        let started = Instant::now();
        let answer = self.endorse(admitted).await;
        let (channel, chaincode) = (admitted.channel_id(), &admitted.proposal.chaincode);
        if let Some(metrics) = &self.metrics {
            let is_success = |answer: &ProposalResponse| {
                let status = answer.response.as_ref().map_or(ERROR, |response| response.status);
                status < ERROR_THRESHOLD
            };
            let outcome = answer.as_ref().map(is_success);
            metrics.answered(channel, chaincode, outcome, started.elapsed());
        }
        answer.unwrap_or_else(|failed| {
            let tx_id = &admitted.proposal.tx_id;
            tracing::warn!(channel, chaincode, %tx_id, reason = %failed, "failed to endorse");
            failure(failed.to_string())
        })
    }

    async fn endorse(&self, admitted: &Admitted) -> Result<ProposalResponse, RunError> {
        let run = self.run(admitted).await?;
        if admitted.channel.is_none() {
            return Ok(ProposalResponse { response: Some(run.response), ..Default::default() });
        }
        let status = run.response.status;
        if (ERROR_THRESHOLD..ERROR).contains(&status) {
            return Ok(ProposalResponse { response: Some(run.response), ..Default::default() });
        }
        let endorsed = status < ERROR_THRESHOLD;
        if let (true, Some(channel), Some(values)) =
            (endorsed, &admitted.channel, &run.results.private)
        {
            self.distribute(admitted, channel, values, run.pushes).await?;
        }
        // Errors have no event.
        let event = run.event.filter(|_| endorsed);
        let simulation = Simulation {
            results: run.results.public_bytes,
            events: event.map(|event| event.encode_to_vec().into()).unwrap_or_default(),
            response: run.response,
            chaincode_id: ChaincodeId {
                name: admitted.proposal.chaincode.clone(),
                version: run.version,
                ..ChaincodeId::default()
            },
        };
        let mut response = match endorsed {
            true => {
                let signer = self.parts.identity.current();
                let response = proposal::endorse(&admitted.proposal, simulation, &*signer)
                    .map_err(RunError::Sign)?;
                vouch(admitted, &response);
                response
            }
            false => ProposalResponse {
                response: Some(simulation.response.clone()),
                payload: proposal::response_payload(&admitted.proposal.proposal_hash, simulation),
                ..ProposalResponse::default()
            },
        };
        response.interest = run.interest;
        Ok(response)
    }

    /// Keeps private values until their transaction is committed, and gives them to other members.
    async fn distribute(
        &self,
        admitted: &Admitted,
        channel: &Channel,
        values: &TxPvtReadWriteSet,
        pushes: Vec<Push>,
    ) -> Result<(), RunError> {
        let tx_id = admitted.proposal.tx_id.to_string();
        let kept = blocking(|| private::keep(channel.ledger(), &tx_id, values)).await;
        kept.map_err(RunError::Keep)?;
        let Some(exchange) = &self.parts.exchange else { return Ok(()) };
        distribution::push(&**exchange, channel, pushes).await.map_err(RunError::Distribution)
    }

    async fn run(&self, admitted: &Admitted) -> Result<Run, RunError> {
        if syscc::is_system(&admitted.proposal.chaincode) {
            return self.run_system(admitted).await;
        }
        self.run_contract(admitted).await
    }

    async fn run_system(&self, admitted: &Admitted) -> Result<Run, RunError> {
        let chaincode = admitted.proposal.chaincode.as_str();
        let mut state = match &admitted.channel {
            Some(_) if syscc::simulates(chaincode) => blocking(|| self.state(admitted)).await,
            _ => None,
        }
        .map(Blocking::new);
        let bundle = admitted.channel.as_ref().map(|channel| channel.bundle());
        let call = SystemCall {
            chaincode,
            args: &admitted.proposal.input.args,
            channel: bundle.as_deref(),
            creator: &admitted.creator,
            now: admitted.now,
        };
        let response = self.parts.system.invoke(call, state.as_mut()).await;
        let results = match state {
            // What an error read or wrote is nobody's concern.
            Some(state) if response.status < ERROR_THRESHOLD => {
                state.finish(LedgerState::finish).await
            }
            _ => SimulationResults::default(),
        };
        let interest = Some(ChaincodeInterest::default());
        let version = syscc::VERSION.to_owned();
        Ok(Run { response, event: None, results, pushes: Vec::new(), interest, version })
    }

    async fn run_contract(&self, admitted: &Admitted) -> Result<Run, RunError> {
        let chaincode = admitted.proposal.chaincode.clone();
        let undefined = |source| RunError::Undefined {
            chaincode: chaincode.clone(),
            channel: admitted.channel_id().to_owned(),
            source,
        };
        let state = blocking(|| self.state(admitted)).await;
        let state = state.ok_or_else(|| undefined(host::ResolveError::NoChannel))?;
        let mut state = Blocking::new(state);
        let mut host = ProposalHost::new(&self.parts, admitted);
        let endorsable = state.run_mut(|state| host.look_up_first(state)).await;
        let endorsable = endorsable.map_err(undefined)?;
        let call = Call {
            channel_id: admitted.channel_id().to_owned(),
            tx_id: admitted.proposal.tx_id.to_string(),
            chaincode: chaincode.clone(),
            input: admitted.proposal.input.clone(),
            proposal: Some(admitted.signed.clone()),
            ..Call::default()
        };
        let outcome = self.parts.runtime.invoke(call, &mut state, &host).await;
        let outcome = outcome.map_err(RunError::Simulation)?;
        let version = endorsable.version.clone();
        let run = state.finish(|state| concluded(admitted, outcome, version, state)).await;
        run.map_err(|error| *error)
    }

    fn state(&self, admitted: &Admitted) -> Option<LedgerState> {
        let channel = admitted.channel.as_ref()?;
        let (ledger, tx_id) = (Arc::clone(channel.ledger()), &admitted.proposal.tx_id);
        Some(LedgerState::new(ledger, tx_id.to_string(), self.parts.keeps_history))
    }
}

impl std::fmt::Debug for Endorser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let free = self.slots.free();
        f.debug_struct("Endorser").field("free_slots", &free).finish_non_exhaustive()
    }
}

/// What a contract's run came to: what was read and written, who must endorse it, and which values
/// other members get. Reads the definitions that this depends on.
fn concluded(
    admitted: &Admitted,
    outcome: Outcome,
    version: String,
    mut state: LedgerState,
) -> Result<Run, Box<RunError>> {
    let Outcome { response, event } = outcome;
    let proposal = &admitted.proposal;
    let snapshot = state.simulator().state().clone();
    let results = state.finish();
    let interest = interest::of(&proposal.chaincode, &results, &snapshot);
    let interest = Some(interest.map_err(|source| Box::new(RunError::Interest(source)))?);
    let pushes = match (&admitted.channel, &results.private) {
        (Some(channel), Some(values)) if response.status < ERROR_THRESHOLD => {
            distribution::pushes(channel, &snapshot, &proposal.tx_id, values)
                .map_err(|source| Box::new(RunError::Distribution(source)))?
        }
        _ => Vec::new(),
    };
    Ok(Run { response, event, results, pushes, interest, version })
}

/// Has the channel know that the peer's own endorsement holds, so that it is not verified again when
/// the transaction is committed.
fn vouch(admitted: &Admitted, response: &ProposalResponse) {
    let (Some(channel), Some(endorsement)) = (&admitted.channel, &response.endorsement) else {
        return;
    };
    let bundle = channel.bundle();
    // An identity that the channel does not know is no endorser there.
    if let Ok(own) = bundle.msps().deserialize_identity(&endorsement.endorser) {
        let signed = proposal::endorsed_bytes(&response.payload, &endorsement.endorser);
        own.vouch(&signed, &endorsement.signature);
    }
}

/// A response that tells why there is no endorsement.
fn failure(message: String) -> ProposalResponse {
    let response = Response { status: ERROR, message, payload: Bytes::new() };
    ProposalResponse { response: Some(response), ..ProposalResponse::default() }
}
