//! The bounded queue between a session and the transport.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;

/// Bytes that may wait in one stream; a single larger message may as well.
const BUDGET_KIB: u32 = 4 * 1024;

struct Item<M> {
    message: Result<M, Status>,
    _budget: Option<OwnedSemaphorePermit>,
}

/// The responses of a Deliver call.
pub struct DeliverStream<M>(mpsc::Receiver<Item<M>>);

impl<M> std::fmt::Debug for DeliverStream<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliverStream").finish_non_exhaustive()
    }
}

impl<M> Stream for DeliverStream<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|item| item.map(|item| item.message))
    }
}

/// The client is gone.
pub(super) struct Gone;

/// The session's end of the queue.
pub(super) struct Sender<M> {
    queue: mpsc::Sender<Item<M>>,
    budget: Arc<Semaphore>,
}

pub(super) fn queue<M>(messages: usize) -> (Sender<M>, DeliverStream<M>) {
    let (queue, receiver) = mpsc::channel(messages.max(1));
    let budget = Arc::new(Semaphore::new(BUDGET_KIB as usize));
    (Sender { queue, budget }, DeliverStream(receiver))
}

impl<M: prost::Message> Sender<M> {
    /// Waits until the message has room.
    pub(super) async fn send(&self, message: M) -> Result<(), Gone> {
        let kib = u32::try_from(message.encoded_len() / 1024 + 1).unwrap_or(BUDGET_KIB);
        let budget = self.budget.clone().acquire_many_owned(kib.min(BUDGET_KIB));
        let budget = tokio::select! {
            budget = budget => budget.map_err(|_| Gone)?,
            () = self.queue.closed() => return Err(Gone),
        };
        let item = Item { message: Ok(message), _budget: Some(budget) };
        self.queue.send(item).await.map_err(|_| Gone)
    }

    pub(super) async fn fail(&self, status: Status) {
        let _ = self.queue.send(Item { message: Err(status), _budget: None }).await;
    }

    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}
