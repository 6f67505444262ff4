//! The contract's side of a stream to a peer (Fabric: fabric-chaincode-go shim/handler.go): it
//! registers, runs each transaction in a task of its own, and brings requests and responses
//! together.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tonic::Status;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{ChaincodeAdditionalParams, ChaincodeId, ChaincodeMessage, Response};

use crate::backend::Backend;
use crate::{Context, Contract, ContractError};

/// Messages that wait to be sent; tasks wait when there are more.
pub(crate) const OUTBOX: usize = 256;

/// Bounds of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Most transactions at work; more are answered with an error. Default 4096.
    pub max_transactions: usize,
    /// Largest message, bytes. Default 100 MiB, as Fabric.
    pub max_message_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_transactions: 4096, max_message_bytes: 100 * 1024 * 1024 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    channel: String,
    tx_id: String,
}

type Waiting = Arc<Mutex<HashMap<Key, mpsc::Sender<ChaincodeMessage>>>>;

/// One stream to a peer.
struct Session {
    contract: Arc<dyn Contract>,
    out: mpsc::Sender<ChaincodeMessage>,
    waiting: Waiting,
    limits: SessionLimits,
    write_batch: Option<usize>,
    read_batch: Option<usize>,
}

/// Registers as `id` on a stream and serves it to its end. Transactions still at work are
/// given up then.
pub(crate) async fn run(
    contract: Arc<dyn Contract>,
    id: &str,
    out: mpsc::Sender<ChaincodeMessage>,
    mut inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
    limits: SessionLimits,
) -> Result<(), Status> {
    let params = open(id, &out, &mut inbound).await?;
    tracing::info!(chaincode = id, "registered with the peer");
    let batch = |used: bool, size: u32| used.then(|| usize::try_from(size).unwrap_or(1).max(1));
    let session = Session {
        contract,
        out,
        waiting: Waiting::default(),
        limits,
        write_batch: batch(params.use_write_batch, params.max_size_write_batch),
        read_batch: batch(params.use_get_multiple_keys, params.max_size_get_multiple_keys),
    };
    session.serve(inbound).await
}

/// Sends REGISTER and waits for REGISTERED and READY.
async fn open(
    id: &str,
    out: &mpsc::Sender<ChaincodeMessage>,
    inbound: &mut (impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin),
) -> Result<ChaincodeAdditionalParams, Status> {
    let chaincode = ChaincodeId { name: id.to_owned(), ..Default::default() };
    let register = ChaincodeMessage {
        payload: chaincode.encode_to_vec().into(),
        ..message_of(Type::Register)
    };
    send(out, register).await?;
    let mut registered = false;
    loop {
        let message = inbound
            .next()
            .await
            .ok_or_else(|| Status::cancelled("the stream ended before READY"))??;
        match message.r#type() {
            Type::Keepalive => send(out, message_of(Type::Keepalive)).await?,
            Type::Registered if !registered => registered = true,
            Type::Ready if registered => {
                // Peers before batches send no payload.
                return Ok(ChaincodeAdditionalParams::decode(message.payload).unwrap_or_default());
            }
            Type::Error => {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                return Err(Status::failed_precondition(text));
            }
            other => {
                let text = format!("message {} before READY", other.as_str_name());
                return Err(Status::failed_precondition(text));
            }
        }
    }
}

impl Session {
    async fn serve(
        self,
        mut inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
    ) -> Result<(), Status> {
        // Dropping the set at the end of the stream ends its tasks.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                message = inbound.next() => match message {
                    None => return Ok(()),
                    Some(message) => self.receive(message?, &mut tasks).await?,
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }

    async fn receive(
        &self,
        message: ChaincodeMessage,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Status> {
        match message.r#type() {
            Type::Keepalive => send(&self.out, message_of(Type::Keepalive)).await,
            Type::Transaction | Type::Init => self.start(message, tasks).await,
            Type::Response | Type::Error => {
                self.pass_on(message);
                Ok(())
            }
            other => {
                let text = format!("cannot handle message {} in state ready", other.as_str_name());
                Err(Status::failed_precondition(text))
            }
        }
    }

    /// Hands a response to its transaction; one that nobody waits for is late and dropped.
    fn pass_on(&self, message: ChaincodeMessage) {
        let key = Key { channel: message.channel_id.clone(), tx_id: message.txid.clone() };
        if let Some(inbox) = self.waiting.lock().get(&key) {
            let _ = inbox.try_send(message);
        }
    }

    async fn start(
        &self,
        message: ChaincodeMessage,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Status> {
        let key = Key { channel: message.channel_id.clone(), tx_id: message.txid.clone() };
        let (sender, inbox) = mpsc::channel(1);
        let refusal = {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= self.limits.max_transactions {
                Some("the contract is busy: too many transactions at one time")
            } else if waiting.contains_key(&key) {
                Some("the contract works on this transaction already")
            } else {
                waiting.insert(key.clone(), sender);
                None
            }
        };
        if let Some(text) = refusal {
            let error = ChaincodeMessage { payload: text.into(), ..message_of(Type::Error) };
            return send(&self.out, addressed(error, &key)).await;
        }
        let link = Arc::new(Link {
            key,
            out: self.out.clone(),
            inbox: AsyncMutex::new(inbox),
            waiting: Arc::clone(&self.waiting),
            max_message_bytes: self.limits.max_message_bytes,
            write_batch: self.write_batch,
            read_batch: self.read_batch,
        });
        let contract = Arc::clone(&self.contract);
        tasks.spawn(transaction(contract, link, message));
        Ok(())
    }
}

/// Runs a transaction and sends its last message.
async fn transaction(contract: Arc<dyn Contract>, link: Arc<Link>, message: ChaincodeMessage) {
    let answer = perform(contract, Arc::clone(&link), message).await;
    let mut answer = addressed(answer, &link.key);
    if let Err(error) = link.check_size(&answer) {
        let text = error.to_string();
        let error = ChaincodeMessage { payload: text.into(), ..message_of(Type::Error) };
        answer = addressed(error, &link.key);
    }
    // Once the peer has the answer, the same transaction id may come again.
    link.waiting.lock().remove(&link.key);
    let _ = link.out.send(answer).await;
}

async fn perform(
    contract: Arc<dyn Contract>,
    link: Arc<Link>,
    message: ChaincodeMessage,
) -> ChaincodeMessage {
    let ctx = match Context::new(link, message) {
        Ok(ctx) => ctx,
        Err(error) => {
            let text = error.to_string();
            return ChaincodeMessage { payload: text.into(), ..message_of(Type::Error) };
        }
    };
    let result = invoke(contract.as_ref(), &ctx).await;
    let result = match result {
        Ok(payload) => ctx.flush().await.map(|()| payload),
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        tracing::debug!(tx_id = ctx.tx_id(), function = ctx.function(), %error, "refused");
    }
    completed(&ctx, result)
}

/// Calls the contract; a panic becomes an error.
pub(crate) async fn invoke(contract: &dyn Contract, ctx: &Context) -> Result<Bytes, ContractError> {
    let running = async {
        if ctx.is_init() {
            contract.init(ctx.clone()).await
        } else {
            contract.invoke(ctx.clone()).await
        }
    };
    AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        tracing::error!(tx_id = ctx.tx_id(), function = ctx.function(), text, "panicked");
        Err(ContractError::Panicked(text))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(500).collect()
}

/// The last message of a transaction. A failed initialization is an ERROR, as in Fabric's shims.
fn completed(ctx: &Context, result: Result<Bytes, ContractError>) -> ChaincodeMessage {
    let response = match result {
        Ok(payload) => Response { status: 200, message: String::new(), payload },
        Err(error) if ctx.is_init() => {
            let text = error.to_string();
            return ChaincodeMessage { payload: text.into(), ..message_of(Type::Error) };
        }
        Err(error) => {
            Response { status: error.status(), message: error.to_string(), payload: Bytes::new() }
        }
    };
    ChaincodeMessage {
        payload: response.encode_to_vec().into(),
        chaincode_event: ctx.take_event(),
        ..message_of(Type::Completed)
    }
}

/// A transaction's way to the peer.
struct Link {
    key: Key,
    out: mpsc::Sender<ChaincodeMessage>,
    /// Held from a request to its response: the protocol allows one at a time.
    inbox: AsyncMutex<mpsc::Receiver<ChaincodeMessage>>,
    waiting: Waiting,
    max_message_bytes: usize,
    write_batch: Option<usize>,
    read_batch: Option<usize>,
}

impl Link {
    /// A message over the limit would end the stream, and all transactions on it.
    fn check_size(&self, message: &ChaincodeMessage) -> Result<(), ContractError> {
        let (size, limit) = (message.encoded_len(), self.max_message_bytes);
        if size > limit {
            return Err(ContractError::TooLarge { size, limit });
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Link {
    async fn request(&self, kind: Type, payload: Bytes) -> Result<Bytes, ContractError> {
        let mut inbox = self.inbox.lock().await;
        let message = addressed(ChaincodeMessage { payload, ..message_of(kind) }, &self.key);
        self.check_size(&message)?;
        self.out.send(message).await.map_err(|_| ContractError::Disconnected)?;
        let answer = inbox.recv().await.ok_or(ContractError::Disconnected)?;
        match answer.r#type() {
            Type::Response => Ok(answer.payload),
            _ => {
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                Err(ContractError::Peer(text))
            }
        }
    }

    fn write_batch(&self) -> Option<usize> {
        self.write_batch
    }

    fn read_batch(&self) -> Option<usize> {
        self.read_batch
    }
}

fn addressed(message: ChaincodeMessage, key: &Key) -> ChaincodeMessage {
    ChaincodeMessage { channel_id: key.channel.clone(), txid: key.tx_id.clone(), ..message }
}

fn message_of(kind: Type) -> ChaincodeMessage {
    ChaincodeMessage { r#type: kind.into(), ..Default::default() }
}

async fn send(
    out: &mpsc::Sender<ChaincodeMessage>,
    message: ChaincodeMessage,
) -> Result<(), Status> {
    out.send(message).await.map_err(|_| Status::cancelled("the stream has ended"))
}
