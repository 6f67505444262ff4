//! A channel's way from received blocks to committed ones: three stages, each a thread.
//!
//! ```text
//! received ─▶ verify (decode, signatures) ─▶ validate (ids, policies, versions) ─▶ write ─▶ news
//! ```
//!
//! Each stage holds one block (the first a few small ones) and has a few waiting, so that a block's memory is bounded by the
//! buffer it was received into. The validating stage sees the state of blocks that are not written
//! yet through an overlay. A stage that cannot go on stops the channel for good
//! ([`Channel::fault`]): whether a block is on disk is then unknown, and nothing more may be
//! acknowledged.
//!
//! Each block is one write with everything that belongs to it. Where blocks wait in a row, as when a
//! peer catches up, one sync brings several to disk, and only then is any of them made known. A loss
//! of power in between loses the newest ones whole, and they are taken from the orderers again.
//!
//! A block whose private values this peer should have and does not waits a while for other members
//! to send them (`values`); those before it are made known first. Hashes of private data
//! whose time is over go with a block, but not through what its transactions change: later blocks
//! see that in a layer of its own (`plan`).
//!
//! Dropping the sender of the first stage ends all three, after what they hold is written.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use weft_ledger::kv::{Durability, KvError};
use weft_ledger::mvcc::Validated;
use weft_ledger::private::{Expiry, PrivateError, ending_with};
use weft_ledger::{BlockStoreError, CommitInput, Committed, Ledger, LedgerError, UpdateBatch};
use weft_types::{BlockNumber, TxFilter, ValidationCode, block};

use super::endorsement::{LIFECYCLE, RuleBook};
use super::members::Members;
use super::metrics::{CommitMetrics, Timing, field};
use super::plan::{PlanError, PrivatePlan, plan};
use super::pool::Pool;
use super::transaction::{self, Checked};
use super::validate::{KnownIds, ValidateError, validate};
use super::values::{BlockValues, Counts};
use crate::channel::{Channel, report};
use crate::deliver_client::{ConfigVerdict, VerifiedBlock};
use crate::private::Collection;

/// Blocks that wait between two stages: enough for a stage to go on while the next one syncs.
const BETWEEN: usize = 8;
/// Transactions from which on no further block is verified together with those before it.
const MAX_VERIFIED_TOGETHER: usize = 128;
/// Blocks that one sync brings to disk, at most.
const MAX_GROUP: usize = 32;
/// Bytes of blocks from which on a group is synced.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What the stages share.
pub(crate) struct PipelineParts {
    pub(crate) channel: Arc<Channel>,
    pub(crate) pool: Pool,
    pub(crate) book: RuleBook,
    pub(crate) metrics: Option<CommitMetrics>,
    pub(crate) history: bool,
    pub(crate) listener: Arc<dyn ConfigListener>,
    pub(crate) members: Members,
}

/// Who wants to know of a new configuration.
pub trait ConfigListener: Send + Sync + 'static {
    /// The configuration of a channel is now `bundle`; called before the block can be read.
    fn configured(&self, bundle: &weft_config::Bundle);
}

/// The running stages.
pub(crate) struct Pipeline {
    threads: Vec<JoinHandle<()>>,
}

/// A block after the first stage.
struct Verified {
    from: VerifiedBlock,
    transactions: Vec<Checked>,
    took: Duration,
}

/// A block after the second stage.
struct Ready {
    from: VerifiedBlock,
    transactions: Vec<Checked>,
    validated: Validated,
    updates: Arc<UpdateBatch>,
    private: PrivatePlan,
    timing: Timing,
}

/// Blocks that are validated and not yet written, oldest first.
#[derive(Default)]
struct InFlight(Mutex<VecDeque<Flying>>);

struct Flying {
    number: BlockNumber,
    updates: Arc<UpdateBatch>,
    expired: Arc<UpdateBatch>,
    schedule: Arc<BTreeSet<Vec<u8>>>,
    tx_ids: Arc<HashSet<String>>,
}

/// What blocks in flight do to the state, for the block after them.
#[derive(Default)]
struct FlyingState {
    layers: Vec<Arc<UpdateBatch>>,
    tx_ids: Vec<Arc<HashSet<String>>>,
    /// What they add to what ends.
    schedules: Vec<Arc<BTreeSet<Vec<u8>>>>,
}

impl Pipeline {
    /// Starts the stages.
    ///
    /// # Errors
    /// Fails when the system refuses a thread.
    pub(crate) fn start(
        parts: PipelineParts,
        blocks: mpsc::Receiver<VerifiedBlock>,
    ) -> std::io::Result<Self> {
        let PipelineParts { channel, pool, book, metrics, history, listener, members } = parts;
        let in_flight = Arc::new(InFlight::default());
        let (to_validate, verified) = sync_channel(BETWEEN);
        let (to_write, ready) = sync_channel(BETWEEN);

        let first = spawn("verify", &channel, move |_| verify(blocks, &pool, &to_validate))?;
        let flying = Arc::clone(&in_flight);
        let second = spawn("validate", &channel, move |channel| {
            Validator { channel, book, in_flight: &flying }.run(&verified, &to_write);
        })?;
        let third = spawn("write", &channel, move |channel| {
            let in_flight = &in_flight;
            Writer { channel, in_flight, metrics, history, listener, members }.run(&ready);
        })?;
        Ok(Self { threads: vec![first, second, third] })
    }

    /// Resolves when all stages have ended and have let go of the channel: a store that is closed
    /// while the process ends takes the process down with it.
    pub(crate) async fn done(self) {
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                // A stage that panicked has said so and is gone, too.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

fn spawn(
    stage: &str,
    channel: &Arc<Channel>,
    work: impl FnOnce(&Channel) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let channel = Arc::clone(channel);
    let name = format!("{stage}-{}", channel.id());
    thread::Builder::new().name(name).spawn(move || {
        // A panic would leave the channel silent; it must be seen instead.
        let _guard = PanicGuard(&channel);
        work(&channel);
    })
}

struct PanicGuard<'a>(&'a Channel);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(self.0.height(), "an internal error in the commit pipeline".to_owned());
        }
    }
}

fn verify(mut blocks: mpsc::Receiver<VerifiedBlock>, pool: &Pool, next: &SyncSender<Verified>) {
    while let Some(first) = blocks.blocking_recv() {
        // Small blocks that wait in a row keep the pool busy together.
        let mut group = vec![first];
        let mut waiting = group_len(&group);
        while waiting < MAX_VERIFIED_TOGETHER {
            let Ok(block) = blocks.try_recv() else { break };
            group.push(block);
            waiting = group_len(&group);
        }
        let started = Instant::now();
        let items: Vec<_> = group
            .iter()
            .flat_map(|from| block::transactions(&from.block).iter().map(move |raw| (from, raw)))
            .collect();
        let checked =
            pool.map(&items, |_, (from, raw)| transaction::check(&from.bundle, Bytes::clone(raw)));
        drop(items);
        let took = started.elapsed() / u32::try_from(group.len()).unwrap_or(u32::MAX);
        let mut checked = checked.into_iter();
        for from in group {
            let count = block::transactions(&from.block).len();
            let transactions = checked.by_ref().take(count).collect();
            if next.send(Verified { transactions, took, from }).is_err() {
                return;
            }
        }
    }
}

fn group_len(group: &[VerifiedBlock]) -> usize {
    group.iter().map(|from| block::transactions(&from.block).len()).sum()
}

struct Validator<'a> {
    channel: &'a Channel,
    book: RuleBook,
    in_flight: &'a InFlight,
}

impl Validator<'_> {
    fn run(mut self, blocks: &Receiver<Verified>, next: &SyncSender<Ready>) {
        while let Ok(block) = blocks.recv() {
            let number = block.from.number;
            match self.validate(block) {
                Ok(ready) => {
                    if next.send(ready).is_err() {
                        return;
                    }
                }
                Err(error) => return self.channel.stop(number, report(&error)),
            }
        }
    }

    fn validate(&mut self, block: Verified) -> Result<Ready, ValidateError> {
        let started = Instant::now();
        let Verified { from, transactions, took } = block;
        let ledger = self.channel.ledger();
        // First the list, then the snapshot: what is written in between is in both.
        let FlyingState { layers, tx_ids, schedules } = self.in_flight.view();
        let state = ledger.state_after(layers);
        let known = Known { ledger, in_flight: tx_ids };
        let mut validated =
            validate(from.number, &from.bundle, &transactions, &mut self.book, &state, &known)?;
        let updates = Arc::new(std::mem::take(&mut validated.updates));
        if updates.namespaces().contains_key(LIFECYCLE) {
            self.book.forget_definitions();
        }
        let ending = ending(ledger, from.number, &schedules)?;
        let judged = (transactions.as_slice(), validated.codes.as_slice());
        let private = plan(from.number, &from.bundle, judged, (&updates, &state), &ending)
            .map_err(ValidateError::Private)?;
        self.in_flight.push(from.number, &updates, &private, &transactions);
        let timing = Timing { verify: took, validate: started.elapsed(), ..Timing::default() };
        Ok(Ready { from, transactions, validated, updates, private, timing })
    }
}

/// What ends with a block, by what is written and by what blocks in flight add.
fn ending(
    ledger: &Ledger,
    number: BlockNumber,
    schedules: &[Arc<BTreeSet<Vec<u8>>>],
) -> Result<BTreeSet<Vec<u8>>, ValidateError> {
    let stored = ending_with(ledger.kv().as_ref(), number)
        .map_err(|source| ValidateError::Private(PlanError::Store(source)))?;
    let mut ending: BTreeSet<_> = stored.into_iter().collect();
    let prefix = Expiry::prefix(number);
    for schedule in schedules {
        let from = schedule.range(prefix.to_vec()..);
        ending.extend(from.take_while(|key| key.starts_with(&prefix)).cloned());
    }
    Ok(ending)
}

/// Ids in the chain and in the blocks that are not written yet.
struct Known<'a> {
    ledger: &'a Ledger,
    in_flight: Vec<Arc<HashSet<String>>>,
}

impl KnownIds for Known<'_> {
    fn known(&self, ids: &[&str]) -> Result<Vec<bool>, BlockStoreError> {
        let mut known = self.ledger.blocks().contain_transactions(ids)?;
        for (known, id) in known.iter_mut().zip(ids) {
            *known = *known || self.in_flight.iter().any(|block| block.contains(*id));
        }
        Ok(known)
    }
}

impl InFlight {
    fn view(&self) -> FlyingState {
        let mut state = FlyingState::default();
        for at in &*self.0.lock() {
            state.layers.push(Arc::clone(&at.updates));
            if !at.expired.is_empty() {
                state.layers.push(Arc::clone(&at.expired));
            }
            state.tx_ids.push(Arc::clone(&at.tx_ids));
            if !at.schedule.is_empty() {
                state.schedules.push(Arc::clone(&at.schedule));
            }
        }
        state
    }

    fn push(
        &self,
        number: BlockNumber,
        updates: &Arc<UpdateBatch>,
        private: &PrivatePlan,
        transactions: &[Checked],
    ) {
        let ids = transactions.iter().map(|transaction| &transaction.tx_id);
        let tx_ids = ids.filter(|id| !id.is_empty()).cloned().collect();
        self.0.lock().push_back(Flying {
            number,
            updates: Arc::clone(updates),
            expired: Arc::clone(&private.expired),
            schedule: Arc::clone(&private.schedule),
            tx_ids: Arc::new(tx_ids),
        });
    }

    fn written(&self, number: BlockNumber) {
        self.0.lock().retain(|at| at.number > number);
    }
}

struct Writer<'a> {
    channel: &'a Channel,
    in_flight: &'a InFlight,
    metrics: Option<CommitMetrics>,
    history: bool,
    listener: Arc<dyn ConfigListener>,
    members: Members,
}

/// A block whose private values were looked for in the transient store.
struct Prepared {
    ready: Ready,
    values: BlockValues,
    /// How long that took.
    took: Duration,
}

impl Writer<'_> {
    fn run(self, blocks: &Receiver<Ready>) {
        if let Err((block, error)) = self.write_all(blocks) {
            self.channel.stop(block, report(&error));
        } else {
            self.channel.waiters().close();
        }
    }

    fn write_all(&self, blocks: &Receiver<Ready>) -> Result<(), (BlockNumber, WriteError)> {
        let mut group = Group::default();
        let mut next = blocks.recv().ok().map(|ready| self.prepare(ready)).transpose()?;
        while let Some(prepared) = next {
            let number = prepared.ready.from.number;
            // Blocks that wait in a row share one sync; nobody hears of one before it. None is kept
            // waiting while another peer is asked for private values of the one after it.
            next = blocks.try_recv().ok().map(|ready| self.prepare(ready)).transpose()?;
            let follows = next.as_ref().is_some_and(|next| !next.values.wants());
            let durability = match follows && group.has_room() {
                true => Durability::Buffered,
                false => Durability::Synced,
            };
            let written = self.write(prepared, durability);
            group.push(written.map_err(|error| (number, error))?);
            if durability == Durability::Synced {
                group.drain().for_each(|written| self.publish(written));
            }
            if next.is_none() {
                next = blocks.recv().ok().map(|ready| self.prepare(ready)).transpose()?;
            }
        }
        Ok(())
    }

    fn prepare(&self, ready: Ready) -> Result<Prepared, (BlockNumber, WriteError)> {
        let started = Instant::now();
        let (number, ledger) = (ready.from.number, self.channel.ledger());
        let judged = (ready.transactions.as_slice(), ready.validated.codes.as_slice());
        let holds = |collection: &Collection| self.members.holds(self.channel, collection);
        let values = BlockValues::held(ledger, number, judged, &ready.private, &holds)
            .map_err(|error| (number, WriteError::Transient(error)))?;
        Ok(Prepared { ready, values, took: started.elapsed() })
    }

    /// Asks other members for private values that are not here, if there are any.
    fn complete(&self, values: &mut BlockValues) -> Result<u64, WriteError> {
        let ledger = self.channel.ledger();
        if !values.wants() {
            return Ok(0);
        }
        // They may have come while the block was waiting for others, and while it waits.
        values.look_again(ledger).map_err(WriteError::Transient)?;
        let found = self.members.pull(self.channel, values.wanted());
        let pulled = values.accept(found);
        if values.wants() {
            values.look_again(ledger).map_err(WriteError::Transient)?;
        }
        Ok(pulled)
    }

    fn write(&self, prepared: Prepared, durability: Durability) -> Result<Written, WriteError> {
        let started = Instant::now();
        let Prepared { ready, mut values, took } = prepared;
        let pulled = self.complete(&mut values)?;
        let Ready { from, transactions, validated, updates, private, mut timing } = ready;
        let VerifiedBlock { block, number, config, share, .. } = from;
        let ledger = self.channel.ledger();
        let writing = self.channel.writes_private();
        let (extra, counts) =
            values.into_batch(ledger, number, &updates, &private).map_err(WriteError::Private)?;
        let tx_ids: Vec<String> = transactions.into_iter().map(|tx| tx.tx_id).collect();
        let input = CommitInput {
            block,
            codes: TxFilter::from_codes(&validated.codes),
            tx_ids: &tx_ids,
            updates: &updates,
            history: if self.history { &validated.history } else { &[] },
            extra,
        };
        let committed = ledger.commit_with(input, durability).map_err(WriteError::Ledger)?;
        drop(writing);
        timing.write = took + started.elapsed();
        self.in_flight.written(number);
        // Now the block's place in the buffer is free.
        drop(share);
        let next = match (config, validated.codes.first()) {
            (Some(ConfigVerdict::Next(next)), Some(ValidationCode::Valid)) => Some(next),
            _ => None,
        };
        let counts = Counts { pulled, ..counts };
        Ok(Written { number, committed, next, tx_ids, codes: validated.codes, counts, timing })
    }

    fn count_private(&self, block: BlockNumber, counts: Counts) {
        let channel = self.channel.id();
        if counts.missing > 0 {
            tracing::warn!(
                { field::CHANNEL } = %channel, { field::BLOCK } = block,
                missing = counts.missing, "committed a block without private data that nobody sent"
            );
            self.members.missing.notify_one();
        }
        if let Some(metrics) = &self.metrics {
            metrics.private(channel, counts);
        }
    }

    /// Makes a block on disk known: first its configuration, then the block, then its transactions.
    fn publish(&self, written: Written) {
        let Written { number, committed, next, tx_ids, codes, counts, timing } = written;
        let channel = self.channel;
        self.count_private(number, counts);
        if let Some(next) = next {
            tracing::info!(
                { field::CHANNEL } = %channel.id(), { field::BLOCK } = number,
                sequence = next.sequence(), "the channel has a new configuration"
            );
            self.listener.configured(&next);
            channel.set_bundle(next);
        }
        channel.recent().push(number, committed.encoded.len(), Arc::new(committed.block));
        channel.set_height(committed.tip.height);
        let told = tx_ids.iter().map(String::as_str).zip(codes.iter().copied());
        channel.waiters().tell(number, told);
        tracing::debug!(
            { field::CHANNEL } = %channel.id(), { field::BLOCK } = number,
            transactions = codes.len(), verify = ?timing.verify, validate = ?timing.validate,
            write = ?timing.write, "committed a block"
        );
        if let Some(metrics) = &self.metrics {
            metrics.height(channel.id(), committed.tip.height);
            metrics.committed(channel.id(), codes.iter().copied(), timing);
            metrics.dequeued(channel.id());
        }
    }
}

/// A block that is written, and not yet known to anybody.
struct Written {
    number: BlockNumber,
    committed: Committed,
    next: Option<weft_config::Bundle>,
    tx_ids: Vec<String>,
    codes: Vec<ValidationCode>,
    counts: Counts,
    timing: Timing,
}

/// Blocks that one sync brings to disk.
#[derive(Default)]
struct Group {
    blocks: Vec<Written>,
    bytes: usize,
}

impl Group {
    /// Whether another block may wait for the sync.
    fn has_room(&self) -> bool {
        self.blocks.len() < MAX_GROUP && self.bytes < MAX_GROUP_BYTES
    }

    fn push(&mut self, written: Written) {
        self.bytes = self.bytes.saturating_add(written.committed.encoded.len());
        self.blocks.push(written);
    }

    fn drain(&mut self) -> impl Iterator<Item = Written> + '_ {
        self.bytes = 0;
        self.blocks.drain(..)
    }
}

/// A block could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("failed to find private values")]
    Transient(#[source] KvError),
    #[error("failed to work in private values")]
    Private(#[source] PrivateError),
    #[error("failed to write the block")]
    Ledger(#[source] LedgerError),
}
