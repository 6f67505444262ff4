//! The runtime's front: one call of a contract, from its name to its response.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{
    ChaincodeEvent, ChaincodeInput, ChaincodeMessage, Response, SignedProposal,
};

use super::config::RuntimeConfig;
use super::connection::{Connection, Exchange, message_of};
use super::dial;
use super::error::{ChaincodeError, ExecuteError, LaunchError};
use super::host::{Host, Target};
use super::metrics::RuntimeMetrics;
use super::package::PackageStore;
use super::registry::{Launched, Lookup, Registry};
use super::state::BlockingState;
use super::transaction::Transaction;

/// A call of a chaincode, as a proposal asks for it.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Channel on whose state it works.
    pub channel_id: String,
    /// Id of the transaction.
    pub tx_id: String,
    /// Name of the chaincode, which is also the namespace of its state.
    pub chaincode: String,
    /// Arguments, the function's name first.
    pub input: ChaincodeInput,
    /// The proposal, which the contract gets to see.
    pub proposal: Option<SignedProposal>,
    /// Decorations that the peer adds to the input, in place of any it holds.
    pub decorations: BTreeMap<String, Bytes>,
}

/// What a chaincode answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its response; a status of 400 and more is an error of the contract.
    pub response: Response,
    /// The event it has set, with chaincode and transaction filled in.
    pub event: Option<ChaincodeEvent>,
}

/// Runs contracts. Clones share everything.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

/// What the runtime's tasks share.
pub(super) struct Inner {
    pub(super) config: RuntimeConfig,
    pub(super) packages: PackageStore,
    pub(super) registry: Registry,
    pub(super) metrics: Option<RuntimeMetrics>,
    pub(super) shutdown: CancellationToken,
}

impl Runtime {
    /// A runtime of the contracts whose packages are in `packages`. It must be used within a
    /// tokio runtime.
    #[must_use]
    pub fn new(
        config: RuntimeConfig,
        packages: PackageStore,
        metrics: Option<RuntimeMetrics>,
    ) -> Self {
        let inner = Inner {
            config,
            packages,
            registry: Registry::default(),
            metrics,
            shutdown: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The installed packages.
    #[must_use]
    pub fn packages(&self) -> &PackageStore {
        &self.inner.packages
    }

    /// Runs a chaincode on `state`, reaching its contract first when it is not connected.
    /// Dropping the future gives up the transaction.
    ///
    /// # Errors
    /// Fails where there is no response: no such chaincode, no connection, no answer in time, or
    /// a connection that ended. A response that tells an error is not a failure.
    pub async fn invoke(
        &self,
        call: Call,
        state: &mut BlockingState,
        host: &dyn Host,
    ) -> Result<Outcome, ChaincodeError> {
        let result = self.invoke_inner(&call, state, host).await;
        result.map_err(|source| ChaincodeError { tx_id: call.tx_id, source })
    }

    async fn invoke_inner(
        &self,
        call: &Call,
        state: &mut BlockingState,
        host: &dyn Host,
    ) -> Result<Outcome, ExecuteError> {
        let input = ChaincodeInput { decorations: call.decorations.clone(), ..call.input.clone() };
        let job = Job {
            channel: &call.channel_id,
            tx_id: &call.tx_id,
            chaincode: &call.chaincode,
            input,
            proposal: call.proposal.as_ref(),
            depth: 0,
        };
        let answer = job.run(&self.inner, state, host).await?;
        outcome(call, answer)
    }

    /// Connects to the contract of a package, so that its first transaction need not wait.
    ///
    /// # Errors
    /// Fails where the contract cannot be reached within the start-up time.
    pub async fn connect(&self, package_id: &str) -> Result<(), Arc<LaunchError>> {
        self.inner.connection(package_id).await.map(drop)
    }

    /// Whether the contract of a package is connected.
    #[must_use]
    pub fn is_connected(&self, package_id: &str) -> bool {
        self.inner.registry.get(package_id).is_some()
    }

    /// Ends all connections; transactions at work fail at once.
    pub fn shutdown(&self) {
        self.inner.shutdown.cancel();
        self.inner.registry.close();
    }
}

impl Inner {
    /// The connection to a package's contract, made when there is none.
    async fn connection(self: &Arc<Self>, id: &str) -> Launched {
        if self.shutdown.is_cancelled() {
            return Err(Arc::new(LaunchError::Shutdown));
        }
        let mut outcome = match self.registry.look_up(id) {
            Lookup::Ready(connection) => return Ok(connection),
            Lookup::Failed(error) => return Err(error),
            Lookup::Wait(outcome) => outcome,
            Lookup::Launch(outcome) => {
                tokio::spawn(dial::launch(Arc::clone(self), id.to_owned()));
                outcome
            }
        };
        let launched = outcome.wait_for(Option::is_some).await;
        launched
            .ok()
            .and_then(|l| l.clone())
            .unwrap_or_else(|| Err(Arc::new(LaunchError::Shutdown)))
    }
}

/// One call: the proposal's own, or one that a contract makes.
pub(super) struct Job<'a> {
    pub(super) channel: &'a str,
    pub(super) tx_id: &'a str,
    pub(super) chaincode: &'a str,
    pub(super) input: ChaincodeInput,
    pub(super) proposal: Option<&'a SignedProposal>,
    /// Calls above this one.
    pub(super) depth: usize,
}

impl<'a> Job<'a> {
    /// Runs the call to its last message, COMPLETED or ERROR. Boxed, as calls nest.
    pub(super) fn run(
        self,
        inner: &'a Arc<Inner>,
        state: &'a mut BlockingState,
        host: &'a dyn Host,
    ) -> Pin<Box<dyn Future<Output = Result<ChaincodeMessage, ExecuteError>> + Send + 'a>> {
        Box::pin(async move {
            let (channel, chaincode, is_init) = (self.channel, self.chaincode, self.input.is_init);
            let target =
                state.run_mut(|state| host.resolve(channel, chaincode, is_init, state)).await;
            match target.map_err(ExecuteError::Invocation)? {
                Target::System => self.run_system(state, host).await,
                Target::Contract { package_id, init } => {
                    self.run_contract(inner, &package_id, init, state, host).await
                }
            }
        })
    }

    async fn run_system(
        self,
        state: &mut BlockingState,
        host: &dyn Host,
    ) -> Result<ChaincodeMessage, ExecuteError> {
        let response = host
            .invoke_system(
                self.channel,
                self.tx_id,
                self.chaincode,
                &self.input,
                self.proposal,
                state,
            )
            .await
            .map_err(ExecuteError::System)?;
        Ok(ChaincodeMessage {
            payload: response.encode_to_vec().into(),
            ..message_of(Type::Completed)
        })
    }

    async fn run_contract(
        self,
        inner: &Arc<Inner>,
        package_id: &str,
        init: bool,
        state: &mut BlockingState,
        host: &dyn Host,
    ) -> Result<ChaincodeMessage, ExecuteError> {
        let exchange = self.open(inner, package_id).await?;
        let kind = if init { Type::Init } else { Type::Transaction };
        let start = ChaincodeMessage {
            payload: self.input.encode_to_vec().into(),
            proposal: self.proposal.cloned(),
            ..message_of(kind)
        };
        let mut transaction = Transaction::new(inner, &self, package_id, init, state, host);
        let conversation = transaction.run(exchange, start);
        let begin = Instant::now();
        let result = tokio::time::timeout(inner.config.execute_timeout, conversation).await;
        transaction.close().await;
        if let Some(metrics) = &inner.metrics {
            metrics.executed(self.channel, package_id, begin.elapsed());
        }
        result.unwrap_or_else(|_| {
            tracing::warn!(chaincode = self.chaincode, tx_id = self.tx_id, "timed out");
            if let Some(metrics) = &inner.metrics {
                metrics.timed_out(package_id);
            }
            Err(ExecuteError::Timeout)
        })
    }

    /// Starts the transaction on the contract's stream. A stream that ended since it was looked
    /// up has seen nothing of the transaction, so another one may be tried.
    async fn open(&self, inner: &Arc<Inner>, package_id: &str) -> Result<Exchange, ExecuteError> {
        let mut again = true;
        loop {
            let connection: Arc<Connection> =
                inner.connection(package_id).await.map_err(|source| ExecuteError::Launch {
                    package_id: package_id.to_owned(),
                    source,
                })?;
            match connection.open(self.channel, self.tx_id) {
                Err(ExecuteError::StreamTerminated) if again => again = false,
                other => return other,
            }
        }
    }
}

fn outcome(call: &Call, answer: ChaincodeMessage) -> Result<Outcome, ExecuteError> {
    if answer.r#type() == Type::Error {
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        return Err(ExecuteError::Failure(text));
    }
    let response = weft_protos::ext::decode("response of the chaincode", answer.payload)
        .map_err(ExecuteError::Response)?;
    let event = answer.chaincode_event.map(|event| ChaincodeEvent {
        chaincode_id: call.chaincode.clone(),
        tx_id: call.tx_id.clone(),
        ..event
    });
    Ok(Outcome { response, event })
}
