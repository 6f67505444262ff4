//! What a range query found, in full or as a Merkle summary of fixed size.
//!
//! Up to the degree's number of results are kept as they are. From the first one more on, every
//! degree + 1 results become one hash (SHA-256 of the encoded `QueryReads`), every degree + 1
//! hashes of a level one hash of the next (SHA-256 of their concatenation), and the summary is
//! the hashes left at the highest level, at most the degree's number
//! (Fabric: core/ledger/kvledger/txmgmt/rwsetutil/query_results_helper.go).

use bytes::Bytes;
use prost::Message as _;
use weft_protos::kvrwset::{KvRead, QueryReads, QueryReadsMerkleSummary};

/// The degree that endorsers use.
pub const MAX_DEGREE: u32 = 50;

/// A degree of less than 2, with which no tree can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to summarise a range: degree {degree} is less than 2")]
pub struct DegreeError {
    /// The degree.
    pub degree: u32,
}

/// What is recorded of a range's results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeReads {
    /// All of them, in key order.
    Raw(Vec<KvRead>),
    /// A summary.
    Summary(QueryReadsMerkleSummary),
}

/// Collects results one by one.
#[derive(Clone, Debug)]
pub struct RangeResults {
    degree: usize,
    pending: Vec<KvRead>,
    /// The hashes of each level that are not combined yet; the first level is `levels[0]`.
    levels: Vec<Vec<Bytes>>,
}

impl RangeResults {
    /// Nothing collected yet.
    ///
    /// # Errors
    /// Fails where the degree is less than 2.
    pub fn new(degree: u32) -> Result<Self, DegreeError> {
        match usize::try_from(degree) {
            Ok(width @ 2..) => Ok(Self::with_degree(width)),
            _ => Err(DegreeError { degree }),
        }
    }

    /// Nothing collected yet, with the degree that endorsers use.
    pub fn with_max_degree() -> Self {
        Self::with_degree(MAX_DEGREE as usize)
    }

    fn with_degree(degree: usize) -> Self {
        Self { degree, pending: Vec::new(), levels: vec![Vec::new()] }
    }

    /// Adds the next result.
    pub fn add(&mut self, read: KvRead) {
        self.pending.push(read);
        if self.pending.len() > self.degree {
            self.hash_pending();
        }
    }

    /// The hashes at the highest level so far, and that level, counted from 1. They only grow
    /// until the level rises.
    pub fn top(&self) -> (u32, &[Bytes]) {
        let hashes = self.levels.last().map_or(&[][..], Vec::as_slice);
        (self.level(), hashes)
    }

    fn level(&self) -> u32 {
        // One level multiplies the results by at least 2, so there are few.
        u32::try_from(self.levels.len()).unwrap_or(u32::MAX)
    }

    /// Everything collected.
    pub fn finish(mut self) -> RangeReads {
        if self.levels.len() == 1 && self.levels[0].is_empty() {
            return RangeReads::Raw(self.pending);
        }
        if !self.pending.is_empty() {
            self.hash_pending();
        }
        self.complete();
        RangeReads::Summary(QueryReadsMerkleSummary {
            max_degree: u32::try_from(self.degree).unwrap_or(u32::MAX),
            max_level: self.level(),
            max_level_hashes: self.levels.pop().unwrap_or_default(),
        })
    }

    fn hash_pending(&mut self) {
        let reads = QueryReads { kv_reads: std::mem::take(&mut self.pending) };
        let mut hash = digest(&[reads.encode_to_vec()]);
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            if hashes.len() <= self.degree {
                return;
            }
            hash = digest(hashes);
            hashes.clear();
        }
    }

    /// Lifts what is left below the highest level up to it: one hash as it is, more of them
    /// combined.
    fn complete(&mut self) {
        let top = self.levels.len() - 1;
        for level in 0..top {
            let hashes = std::mem::take(&mut self.levels[level]);
            let lifted = match hashes.as_slice() {
                [] => continue,
                [one] => one.clone(),
                more => digest(more),
            };
            self.levels[level + 1].push(lifted);
        }
        if self.levels[top].len() > self.degree {
            let combined = digest(&self.levels[top]);
            self.levels[top].clear();
            self.levels.push(vec![combined]);
        }
    }
}

fn digest<P: AsRef<[u8]>>(parts: &[P]) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256_parts(parts))
}
