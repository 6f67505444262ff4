//! Calls that wait for a transaction to be committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use weft_types::{BlockNumber, ValidationCode};

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStatus {
    /// The block it is in.
    pub block: BlockNumber,
    /// Its validation code.
    pub code: ValidationCode,
}

/// Waiting calls by transaction id. A transaction can have several; nobody polls.
#[derive(Debug, Clone)]
pub(crate) struct Waiters {
    shared: Arc<Mutex<Table>>,
    limit: usize,
    next: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Table {
    by_tx: HashMap<String, Vec<Waiter>>,
    count: usize,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    tell: oneshot::Sender<CommitStatus>,
}

/// There are as many waiting calls as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) limit: usize,
}

/// A place in the table, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiters: Waiters,
    tx_id: String,
    id: u64,
    told: oneshot::Receiver<CommitStatus>,
}

impl Waiters {
    /// Room for `limit` calls.
    pub(crate) fn new(limit: usize) -> Self {
        Self { shared: Arc::default(), limit, next: Arc::default() }
    }

    /// Takes a place. Whoever does looks into the ledger afterwards: what is committed before
    /// the place was taken is not told.
    pub(crate) fn wait(&self, tx_id: &str) -> Result<Waiting, Full> {
        let (tell, told) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.shared.lock();
        if table.count >= self.limit {
            return Err(Full { limit: self.limit });
        }
        table.count += 1;
        table.by_tx.entry(tx_id.to_owned()).or_default().push(Waiter { id, tell });
        drop(table);
        Ok(Waiting { waiters: self.clone(), tx_id: tx_id.to_owned(), id, told })
    }

    /// Tells everyone who waits for one of these transactions. Of two transactions with one id,
    /// the first in the list counts.
    pub(crate) fn tell<'a>(
        &self,
        block: BlockNumber,
        transactions: impl Iterator<Item = (&'a str, ValidationCode)>,
    ) {
        let mut table = self.shared.lock();
        if table.count == 0 {
            return;
        }
        for (tx_id, code) in transactions {
            for waiter in table.by_tx.remove(tx_id).unwrap_or_default() {
                table.count = table.count.saturating_sub(1);
                // The caller may have gone meanwhile.
                let _ = waiter.tell.send(CommitStatus { block, code });
            }
        }
    }

    /// Ends every wait without an answer, as the channel commits nothing any more.
    pub(crate) fn close(&self) {
        *self.shared.lock() = Table::default();
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().count
    }
}

impl Waiting {
    /// The answer; `None` when there will be none.
    pub(crate) async fn told(&mut self) -> Option<CommitStatus> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.waiters.shared.lock();
        let Some(list) = table.by_tx.get_mut(&self.tx_id) else { return };
        let before = list.len();
        list.retain(|waiter| waiter.id != self.id);
        let removed = before - list.len();
        if list.is_empty() {
            table.by_tx.remove(&self.tx_id);
        }
        table.count = table.count.saturating_sub(removed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{CommitStatus, ValidationCode, Waiters};

    #[tokio::test]
    async fn tells_everyone_who_waits_for_a_transaction() {
        let waiters = Waiters::new(3);
        let mut first = waiters.wait("a").unwrap();
        let mut second = waiters.wait("a").unwrap();
        let other = waiters.wait("b").unwrap();
        waiters.tell(7, [("a", ValidationCode::Valid)].into_iter());
        let status = CommitStatus { block: 7, code: ValidationCode::Valid };
        assert_eq!(first.told().await, Some(status));
        assert_eq!(second.told().await, Some(status));
        assert_eq!(waiters.len(), 1);
        drop((first, second, other));
        assert_eq!(waiters.len(), 0);
    }

    #[tokio::test]
    async fn refuses_more_than_its_limit_and_frees_places() {
        let waiters = Waiters::new(1);
        let place = waiters.wait("a").unwrap();
        assert_eq!(waiters.wait("b").unwrap_err().limit, 1);
        drop(place);
        assert!(waiters.wait("b").is_ok());
    }

    #[tokio::test]
    async fn ends_without_an_answer_when_closed() {
        let waiters = Waiters::new(1);
        let mut place = waiters.wait("a").unwrap();
        waiters.close();
        assert_eq!(place.told().await, None);
    }
}
