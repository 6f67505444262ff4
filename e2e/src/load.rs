//! Transactions without end, and a record of those that were acknowledged.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use weft_client::{Call, Gateway};

/// How hard clients press.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Transactions in flight at one time.
    pub clients: usize,
    /// What a client waits after each of its transactions.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { clients: 8, pause: Duration::ZERO }
    }
}

/// Queries in flight when every key is looked up.
const LOOKUPS: usize = 8;
/// Longest wait for another acknowledgement.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clients that write a key each and go on to the next when its commit is acknowledged. A
/// failed call is no matter: what counts is that what was acknowledged is there.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<Vec<String>>,
}

impl Load {
    /// Starts clients on these gateways, which take turns when one fails.
    pub fn start(gateways: Vec<Gateway>) -> Load {
        Load::start_at(gateways, Pace::default())
    }

    /// Starts clients that keep to a pace.
    pub fn start_at(gateways: Vec<Gateway>, pace: Pace) -> Load {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            acknowledged: Mutex::new(Vec::new()),
        });
        let clients = (0..pace.clients)
            .map(|index| tokio::spawn(client(shared.clone(), gateways.clone(), index, pace.pause)))
            .collect();
        Load { shared, clients }
    }

    /// How many were acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.lock().len()
    }

    /// How many were sent so far, whatever became of them.
    pub fn submitted(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// Waits until `more` further transactions are acknowledged.
    ///
    /// # Errors
    /// When that does not happen: commits do not go on.
    pub async fn progress(&self, more: usize) -> anyhow::Result<()> {
        let target = self.count() + more;
        let deadline = Instant::now() + PATIENCE;
        while self.count() < target {
            if Instant::now() > deadline {
                bail!("commits stopped at {} acknowledged transactions", self.count());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends the clients and returns the keys of all acknowledged transactions.
    ///
    /// # Errors
    /// When a client broke.
    pub async fn finish(self) -> anyhow::Result<Vec<String>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await?;
        }
        Ok(std::mem::take(&mut *self.shared.lock()))
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn client(shared: Arc<Shared>, gateways: Vec<Gateway>, index: usize, pause: Duration) {
    let mut turn = index;
    while !shared.stop.load(Ordering::Relaxed) {
        let key = format!("load-{}", shared.next.fetch_add(1, Ordering::Relaxed));
        let gateway = &gateways[turn % gateways.len()];
        let call = Call::new("asset", "Put", [key.clone(), key.clone()]);
        let outcome = tokio::time::timeout(Duration::from_secs(15), gateway.submit(call)).await;
        if matches!(outcome, Ok(Ok(_))) {
            shared.lock().push(key);
            sleep(pause).await;
        } else {
            turn += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Checks that every key is there with its value, as one peer sees it.
///
/// # Errors
/// The first key that is not.
pub async fn assert_all_there(gateway: &Gateway, keys: &[String]) -> anyhow::Result<()> {
    let lookups = keys.iter().map(|key| assert_there(gateway, key));
    stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await
}

async fn assert_there(gateway: &Gateway, key: &str) -> anyhow::Result<()> {
    let value = gateway.evaluate(Call::new("asset", "Get", [key])).await?;
    if value != key.as_bytes() {
        bail!("{key} was acknowledged, and {} has {value:?}", gateway.address());
    }
    Ok(())
}
