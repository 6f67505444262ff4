//! What becomes of an envelope, at once or later, and answers in the order of their questions.

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
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
/// the last. Up to `at_once` values are brought about at the same time.
pub(crate) fn in_order<T: Send + 'static, E: Send + 'static>(
    queue: mpsc::Receiver<Result<Pending<T>, E>>,
    at_once: usize,
    is_last: impl Fn(&T) -> bool + Send + 'static,
) -> impl Stream<Item = Result<T, E>> + Send {
    let values = ReceiverStream::new(queue).map(|pending| async move {
        match pending {
            Ok(pending) => Ok(pending.get().await),
            Err(error) => Err(error),
        }
    });
    let values = Box::pin(values.buffered(at_once.max(1)));
    futures::stream::unfold(Some((values, is_last)), |state| async move {
        let (mut values, is_last) = state?;
        let value = values.next().await?;
        let ends = value.as_ref().map_or(true, &is_last);
        Some((value, (!ends).then_some((values, is_last))))
    })
}
