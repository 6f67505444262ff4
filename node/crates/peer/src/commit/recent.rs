//! The newest committed blocks, kept decoded.
//!
//! Events of a block go to many clients at about the time of its commit; they share one decoded
//! copy instead of reading the store again.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use weft_protos::common::Block;
use weft_types::BlockNumber;

/// Blocks kept at most.
const MAX_BLOCKS: usize = 16;
/// Encoded size of the blocks kept at most; the newest block is kept whatever its size.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct RecentBlocks(RwLock<Ring>);

#[derive(Debug, Default)]
struct Ring {
    blocks: VecDeque<Recent>,
    bytes: usize,
}

#[derive(Debug)]
struct Recent {
    number: BlockNumber,
    bytes: usize,
    block: Arc<Block>,
}

impl RecentBlocks {
    /// Adds the block that was just committed; `bytes` is its encoded size.
    pub(crate) fn push(&self, number: BlockNumber, bytes: usize, block: Arc<Block>) {
        let mut ring = self.0.write();
        ring.bytes = ring.bytes.saturating_add(bytes);
        ring.blocks.push_back(Recent { number, bytes, block });
        while ring.blocks.len() > MAX_BLOCKS || (ring.bytes > MAX_BYTES && ring.blocks.len() > 1) {
            let Some(oldest) = ring.blocks.pop_front() else { break };
            ring.bytes = ring.bytes.saturating_sub(oldest.bytes);
        }
    }

    /// The block with this number, if it is still here.
    pub(crate) fn get(&self, number: BlockNumber) -> Option<Arc<Block>> {
        let ring = self.0.read();
        let first = ring.blocks.front()?.number;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        ring.blocks.get(place).filter(|at| at.number == number).map(|at| Arc::clone(&at.block))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use weft_types::block;

    use super::{MAX_BLOCKS, MAX_BYTES, RecentBlocks};

    #[test]
    fn keeps_the_newest_blocks() {
        let recent = RecentBlocks::default();
        for number in 0..40 {
            recent.push(number, 100, Arc::new(block::new(number, Bytes::new(), vec![])));
        }
        assert!(recent.get(39).is_some());
        assert!(recent.get(40 - MAX_BLOCKS as u64).is_some());
        assert!(recent.get(39 - MAX_BLOCKS as u64).is_none());
        assert!(recent.get(40).is_none());
    }

    #[test]
    fn keeps_no_more_bytes_than_allowed() {
        let recent = RecentBlocks::default();
        for number in 0..3 {
            let block = Arc::new(block::new(number, Bytes::new(), vec![]));
            recent.push(number, MAX_BYTES / 2 + 1, block);
        }
        assert!(recent.get(2).is_some());
        assert!(recent.get(1).is_none());
    }
}
