//! What another orderer has, while the one at hand sends nothing.
//!
//! A stream of headers from a second orderer says when there is a block that the first one holds
//! back, is late with, or does not have (Fabric: `BFTCensorshipMonitor` in
//! internal/pkg/peer/blocksprovider, there for BFT channels only). It is opened when the first one
//! has been silent for a moment; who sends blocks without pause needs no witness. Witnesses are not
//! trusted either: a header counts with the signatures that a block needs.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weft_config::{Bundle, block as config_block};
use weft_msp::ValidAt;
use weft_protos::common::Block;
use weft_types::seek::Seek;
use weft_types::{BlockNumber, block};

use super::sources::{OrdererEndpoint, Sources};
use super::stream::{BlockStream, Dial};
use super::verify::Progress;
use crate::channel::report;
use crate::commit::metrics::field;

/// A witness that does not show what is here already is replaced after this time.
const BEHIND: Duration = Duration::from_secs(1);
/// Any is, after this time: it may be no better than the orderer at hand.
const TURN: Duration = Duration::from_secs(30);

/// The headers of another orderer than the one that sends blocks.
#[derive(Default)]
pub(super) struct Witness {
    stream: Option<Open>,
    /// Who is next.
    turn: usize,
}

struct Open {
    orderer: OrdererEndpoint,
    headers: BlockStream,
    /// The newest block that it showed with good signatures.
    shown: Option<BlockNumber>,
}

/// Why a witness is of no more use.
enum Useless {
    /// It ended, or cannot be reached.
    Broken(String),
    /// It knows less than is known here, or nothing new for long.
    Quiet,
    /// It shows what orderers did not sign.
    False(String),
}

impl Witness {
    /// Resolves when an orderer other than `than` shows a block that is not here; returns its
    /// address. Can be dropped and called again without losing anything.
    pub(super) async fn ahead(
        &mut self,
        than: &str,
        sources: &Sources,
        progress: &Progress,
        dial: impl Fn() -> Dial,
        pause: Duration,
    ) -> String {
        loop {
            if let Some(open) = self.usable(than, sources) {
                let useless = match open.ahead(progress).await {
                    Ok(()) => return open.orderer.address.clone(),
                    Err(useless) => useless,
                };
                note(&open.orderer.address, &useless);
                self.stream = None;
            }
            self.open(than, sources, &dial, pause).await;
        }
    }

    fn usable(&mut self, than: &str, sources: &Sources) -> Option<&mut Open> {
        let usable = |open: &Open| open.orderer.address != than && sources.contains(&open.orderer);
        if !self.stream.as_ref().is_some_and(usable) {
            self.stream = None;
        }
        self.stream.as_mut()
    }

    /// Opens a stream from the next of the other orderers; waits when that fails, or there is none.
    async fn open(
        &mut self,
        than: &str,
        sources: &Sources,
        dial: impl Fn() -> Dial,
        pause: Duration,
    ) {
        let others = sources.others(than);
        self.turn = self.turn.wrapping_add(1);
        let Some(orderer) = others.get(self.turn % others.len().max(1)).cloned() else {
            return sleep_until(Instant::now() + TURN).await;
        };
        match dial().open(&orderer, Seek::headers()).await {
            Ok(headers) => self.stream = Some(Open { orderer, headers, shown: None }),
            Err(error) => {
                note(&orderer.address, &Useless::Broken(report(&error)));
                sleep_until(Instant::now() + pause).await;
            }
        }
    }
}

impl Open {
    /// Resolves when a block that is not here was shown.
    async fn ahead(&mut self, progress: &Progress) -> Result<(), Useless> {
        let begun = Instant::now();
        while self.shown.is_none_or(|shown| shown < progress.next()) {
            let behind = self.shown.is_none_or(|shown| shown.saturating_add(1) < progress.next());
            let patience = if behind { BEHIND } else { TURN };
            let header = tokio::select! {
                header = self.headers.next() => header,
                () = sleep_until(begun + patience) => return Err(Useless::Quiet),
            };
            let header = header.map_err(|error| Useless::Broken(report(&error)))?;
            self.take(&header, progress)?;
        }
        Ok(())
    }

    fn take(&mut self, header: &Block, progress: &Progress) -> Result<(), Useless> {
        let refused = |error: &dyn std::error::Error| Useless::False(report(error));
        let number = block::header(header).map_err(|error| refused(&error))?.number;
        if number >= progress.next() {
            verify(progress.bundle(), header).map_err(|error| refused(&error))?;
        }
        self.shown = self.shown.max(Some(number));
        Ok(())
    }
}

fn verify(bundle: &Bundle, header: &Block) -> Result<(), config_block::BlockError> {
    config_block::verify_signatures(bundle, header, ValidAt::Issuance)
}

fn note(orderer: &str, useless: &Useless) {
    match useless {
        Useless::Broken(error) => {
            tracing::debug!({ field::ORDERER } = orderer, error, "lost the headers of an orderer");
        }
        Useless::Quiet => {
            tracing::debug!({ field::ORDERER } = orderer, "an orderer shows no new headers");
        }
        Useless::False(error) => {
            tracing::warn!({ field::ORDERER } = orderer, error, "refused a header of an orderer");
        }
    }
}
