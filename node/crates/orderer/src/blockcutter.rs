//! When a block is full (Fabric: `orderer/common/blockcutter`). Pure; the timer is the caller's.

use bytes::Bytes;
use weft_config::BatchSize;

/// Collects encoded envelopes into batches, each of which becomes a block.
#[derive(Debug)]
pub struct BlockCutter {
    limits: BatchSize,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

impl BlockCutter {
    /// A cutter with the limits of a channel's configuration.
    #[must_use]
    pub fn new(limits: BatchSize) -> Self {
        Self { limits, pending: Vec::new(), pending_bytes: 0 }
    }

    /// Takes other limits for what comes from now on.
    pub fn set_limits(&mut self, limits: BatchSize) {
        self.limits = limits;
    }

    /// Adds an envelope and returns the batches that are full now, in order: none, one or two.
    ///
    /// An envelope over PreferredMaxBytes stands alone, behind what was pending. One that would
    /// take the pending ones over PreferredMaxBytes cuts them first. MaxMessageCount cuts last.
    pub fn add(&mut self, envelope: Bytes) -> Vec<Vec<Bytes>> {
        let preferred = self.limits.preferred_max_bytes as usize;
        let size = envelope.len();
        let mut full = Vec::new();
        if size > preferred {
            full.extend(self.cut());
            full.push(vec![envelope]);
            return full;
        }
        if self.pending_bytes + size > preferred {
            full.extend(self.cut());
        }
        self.pending.push(envelope);
        self.pending_bytes += size;
        if self.pending.len() >= self.limits.max_message_count as usize {
            full.extend(self.cut());
        }
        full
    }

    /// Takes out what is pending; `None` when nothing is.
    pub fn cut(&mut self) -> Option<Vec<Bytes>> {
        self.pending_bytes = 0;
        let batch = std::mem::take(&mut self.pending);
        (!batch.is_empty()).then_some(batch)
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Number of envelopes pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}
