//! One stream to a contract: who waits for what on it, and the task that reads it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weft_protos::peer::ChaincodeMessage;
use weft_protos::peer::chaincode_message::Type;

use super::admission::Admitted;
use super::error::ExecuteError;

/// Messages to a contract that wait to be sent; senders wait when there are more.
pub(super) const OUTBOX: usize = 256;
/// Messages of one transaction that wait to be handled. Contracts send one and wait for the
/// answer, so more than one is a misbehaving contract.
const INBOX: usize = 4;

/// A transaction on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    channel: String,
    tx_id: String,
}

/// The transactions at work; `None` once the stream has ended.
type Pending = Option<HashMap<Key, mpsc::Sender<ChaincodeMessage>>>;

/// A registered contract's stream.
#[derive(Debug)]
pub(super) struct Connection {
    /// As what the contract was admitted.
    admitted: Admitted,
    /// Where the contract is, for people.
    place: String,
    out: mpsc::Sender<ChaincodeMessage>,
    pending: Mutex<Pending>,
    closed: CancellationToken,
    max_message_bytes: usize,
}

impl Connection {
    pub(super) fn new(
        admitted: Admitted,
        place: String,
        out: mpsc::Sender<ChaincodeMessage>,
        closed: CancellationToken,
        max_message_bytes: usize,
    ) -> Self {
        let pending = Mutex::new(Some(HashMap::new()));
        Self { admitted, place, out, pending, closed, max_message_bytes }
    }

    pub(super) fn id(&self) -> &str {
        self.admitted.id()
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn is_open(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// Queues a message while there is room: for the few that must not wait.
    pub(super) fn try_send(&self, message: ChaincodeMessage) -> bool {
        self.out.try_send(message).is_ok()
    }

    /// Starts a transaction on this stream.
    pub(super) fn open(
        self: &Arc<Self>,
        channel: &str,
        tx_id: &str,
    ) -> Result<Exchange, ExecuteError> {
        let key = Key { channel: channel.to_owned(), tx_id: tx_id.to_owned() };
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut pending = self.pending.lock();
        let transactions = pending.as_mut().ok_or(ExecuteError::StreamTerminated)?;
        if transactions.contains_key(&key) {
            let Key { channel, tx_id } = key;
            return Err(ExecuteError::DuplicateTransaction { tx_id, channel });
        }
        transactions.insert(key.clone(), sender);
        drop(pending);
        Ok(Exchange { connection: Arc::clone(self), key, inbox })
    }

    /// Ends the stream: every transaction on it fails at once.
    pub(super) fn close(&self) {
        *self.pending.lock() = None;
        self.closed.cancel();
    }

    /// Reads the stream to its end, which it returns, and closes the connection.
    pub(super) async fn run(
        &self,
        mut inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
        keepalive: Option<Duration>,
    ) -> Result<(), Status> {
        let mut beat = keepalive.map(ticker);
        let result = loop {
            tokio::select! {
                () = self.closed.cancelled() => break Ok(()),
                () = tick(&mut beat) => {
                    // A full outbox means that there is traffic, which serves as well.
                    self.try_send(message_of(Type::Keepalive));
                }
                message = inbound.next() => match message {
                    None => break Ok(()),
                    Some(Err(status)) => break Err(status),
                    Some(Ok(message)) => {
                        if let Err(status) = self.receive(message) {
                            break Err(status);
                        }
                    }
                },
            }
        };
        self.close();
        result
    }

    /// Hands a message to its transaction. Never waits, so no transaction can hold up another.
    fn receive(&self, message: ChaincodeMessage) -> Result<(), Status> {
        let kind = message.r#type();
        if kind == Type::Keepalive {
            return Ok(());
        }
        if !belongs_to_transaction(kind) {
            let text = format!("cannot handle message {} in state ready", kind.as_str_name());
            return Err(Status::failed_precondition(text));
        }
        let key = Key { channel: message.channel_id, tx_id: message.txid };
        let message =
            ChaincodeMessage { channel_id: String::new(), txid: String::new(), ..message };
        let pending = self.pending.lock();
        let sender = pending.as_ref().and_then(|transactions| transactions.get(&key));
        let Some(sender) = sender else {
            drop(pending);
            self.answer_unknown(kind, key);
            return Ok(());
        };
        if sender.try_send(message).is_err() {
            drop(pending);
            tracing::warn!(
                chaincode = self.id(),
                tx_id = key.tx_id,
                kind = kind.as_str_name(),
                "dropped a message of a contract that does not wait for answers"
            );
        }
        Ok(())
    }

    /// Answers a request for a transaction that is over, such as one that timed out, so that the
    /// contract stops waiting. The end of such a transaction needs no answer.
    fn answer_unknown(&self, kind: Type, key: Key) {
        if matches!(kind, Type::Completed | Type::Error) {
            return;
        }
        let text = format!(
            "{} failed: transaction ID: {}: no ledger context",
            kind.as_str_name(),
            key.tx_id
        );
        self.try_send(ChaincodeMessage {
            r#type: Type::Error.into(),
            payload: text.into(),
            channel_id: key.channel,
            txid: key.tx_id,
            ..Default::default()
        });
    }
}

/// The messages of one transaction. Dropping it ends the transaction on this side.
pub(super) struct Exchange {
    connection: Arc<Connection>,
    key: Key,
    inbox: mpsc::Receiver<ChaincodeMessage>,
}

impl Exchange {
    /// Sends a message of this transaction.
    pub(super) async fn send(&self, mut message: ChaincodeMessage) -> Result<(), ExecuteError> {
        message.channel_id.clone_from(&self.key.channel);
        message.txid.clone_from(&self.key.tx_id);
        let (size, limit) = (message.encoded_len(), self.connection.max_message_bytes);
        if size > limit {
            return Err(ExecuteError::TooLarge { size, limit });
        }
        tokio::select! {
            biased;
            () = self.connection.closed.cancelled() => Err(ExecuteError::StreamTerminated),
            sent = self.connection.out.send(message) => {
                sent.map_err(|_| ExecuteError::StreamTerminated)
            }
        }
    }

    /// Waits for the contract's next message.
    pub(super) async fn receive(&mut self) -> Result<ChaincodeMessage, ExecuteError> {
        self.inbox.recv().await.ok_or(ExecuteError::StreamTerminated)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(transactions) = self.connection.pending.lock().as_mut() {
            transactions.remove(&self.key);
        }
    }
}

/// A message with nothing but a type.
pub(super) fn message_of(kind: Type) -> ChaincodeMessage {
    ChaincodeMessage { r#type: kind.into(), ..Default::default() }
}

fn belongs_to_transaction(kind: Type) -> bool {
    !matches!(
        kind,
        Type::Undefined
            | Type::Register
            | Type::Registered
            | Type::Init
            | Type::Ready
            | Type::Transaction
            | Type::Response
            | Type::Keepalive
    )
}

fn ticker(period: Duration) -> Interval {
    let mut ticker = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

async fn tick(beat: &mut Option<Interval>) {
    match beat {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
