//! What becomes of an envelope, at once or later, and answers in the order of their questions.

use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use weft_protos::common::Status;

/// A status with the words that go with it.
pub type Outcome = (Status, String);

/// A value that is there, or will be.
pub enum Pending<T> {
    /// It is there.
    Ready(T),
    /// It will be.
    Later(BoxFuture<'static, T>),
}

impl<T: Send + 'static> Pending<T> {
    /// The value after `change`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Pending<U> {
        match self {
            Self::Ready(value) => Pending::Ready(change(value)),
            Self::Later(value) => Pending::Later(Box::pin(async move { change(value.await) })),
        }
    }

    /// The value.
    pub async fn get(self) -> T {
        match self {
            Self::Ready(value) => value,
            Self::Later(value) => value.await,
        }
    }
}

/// Values in the order in which they were queued; ends behind an error and behind a value that is
/// the last.
pub(crate) fn in_order<T: Send + 'static, E: Send + 'static>(
    queue: mpsc::Receiver<Result<Pending<T>, E>>,
    is_last: impl Fn(&T) -> bool + Send + 'static,
) -> impl Stream<Item = Result<T, E>> + Send {
    futures::stream::unfold(Some((queue, is_last)), |state| async move {
        let (mut queue, is_last) = state?;
        match queue.recv().await? {
            Err(status) => Some((Err(status), None)),
            Ok(pending) => {
                let value = pending.get().await;
                let next = if is_last(&value) { None } else { Some((queue, is_last)) };
                Some((Ok(value), next))
            }
        }
    })
}
