//! Config updates of a channel: judged, sent, and looked for on the ledger.

use tokio::time::{Instant, sleep};
use weft_client::{ClientError, Participation};
use weft_config::{Bundle, block as config_block, update};
use weft_protos::common::{Envelope, Status};
use weft_types::Timestamp;

use super::{ConfigState, Current, NeedsSignatures, POLL, Progress, Run, SETTLE};
use crate::channel_config::{self, Edit};
use crate::cluster::ledger::access::NodeRef;
use crate::cluster::ledger::signatures::{Signatories, Verdict};
use crate::cluster::ledger::{LedgerError, Waiting, told};

/// What became of the differences that are not consenters.
pub(super) enum Edited {
    Nothing,
    Sent(Progress),
    Needs(NeedsSignatures),
}

impl<'a> Run<'a> {
    fn signatories(&self) -> Result<Signatories<'a>, LedgerError> {
        let no_admin = |holder: &str| LedgerError::NoAdmin { holder: holder.to_owned() };
        let others = self.input.signers.iter().map(String::as_str);
        let others = others.filter(|holder| *holder != self.input.ordering);
        let admins = std::iter::once(self.input.ordering)
            .chain(others)
            .map(|holder| self.access.admin(holder).ok_or_else(|| no_admin(holder)))
            .map(|admin| admin.map(|admin| admin.signer.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Signatories { admins, given: self.input.signatures, now: now() })
    }

    fn judge(&self, bundle: &Bundle, edits: &[Edit]) -> Result<Verdict, LedgerError> {
        let next = channel_config::apply(bundle.config(), self.input.desired, edits)?;
        let update = update::compute(self.id, bundle.config(), &next).map_err(|error| {
            LedgerError::Update { channel: self.id.clone(), what: error.to_string() }
        })?;
        self.signatories()?.judge(bundle, &update)
    }

    /// Changes everything but the consenters: all of it in one update if those who sign here
    /// may; else what they may, and the rest is left to others.
    pub(super) async fn edit(&mut self, bundle: &Bundle) -> Result<Edited, LedgerError> {
        let edits = channel_config::differences(bundle.config(), self.input.desired)?;
        if edits.is_empty() {
            return Ok(Edited::Nothing);
        }
        let needed = match self.judge(bundle, &edits)? {
            Verdict::Enough(envelope) => return self.send_edits(bundle, &edits, *envelope).await,
            Verdict::Missing(needed) => needed,
        };
        let mut able = Vec::new();
        for edit in &edits {
            if matches!(self.judge(bundle, std::slice::from_ref(edit))?, Verdict::Enough(_)) {
                able.push(edit.clone());
            }
        }
        if !able.is_empty()
            && let Verdict::Enough(envelope) = self.judge(bundle, &able)?
        {
            return self.send_edits(bundle, &able, *envelope).await;
        }
        let message = format!("to {}: {}", list(&edits), needed.message);
        Ok(Edited::Needs(NeedsSignatures { message, ..needed }))
    }

    async fn send_edits(
        &mut self,
        bundle: &Bundle,
        edits: &[Edit],
        envelope: Envelope,
    ) -> Result<Edited, LedgerError> {
        let why = format!("Changed the config of channel {}: {}", self.id, list(edits));
        Ok(Edited::Sent(self.send(bundle, envelope, why).await))
    }

    pub(super) async fn change_consenters(
        &mut self,
        bundle: &Bundle,
        edit: &Edit,
        why: String,
    ) -> Result<Progress, LedgerError> {
        let why = format!("{why} (channel {})", self.id);
        match self.judge(bundle, std::slice::from_ref(edit))? {
            Verdict::Enough(envelope) => Ok(self.send(bundle, *envelope, why).await),
            Verdict::Missing(needed) => Ok(Progress::Settled(ConfigState::NeedsSignatures(needed))),
        }
    }

    /// Sends an update to the leader, else to whichever orderer takes it, and looks for a moment
    /// whether it gets on the ledger.
    async fn send(&mut self, bundle: &Bundle, envelope: Envelope, why: String) -> Progress {
        let leader = self.seen.leader(self.id.as_str()).map(str::to_owned);
        let mut orderers: Vec<&NodeRef> =
            self.input.orderers.iter().filter(|node| self.chain(node).is_some()).collect();
        orderers.sort_by_key(|node| Some(&node.name) != leader.as_ref());
        let mut last = "no orderer has the channel".to_owned();
        for node in orderers {
            let call = async {
                let orderer = self.access.orderer(node, self.input.ordering)?;
                orderer.broadcast(envelope.clone()).await
            };
            match self.access.within(node, "a config update", call).await {
                Ok(()) => {
                    if !self.is_on_ledger(node, bundle.sequence() + 1).await {
                        let message = "an update was sent and is not on the ledger yet";
                        return Waiting::new("ChangingConfig", message).into();
                    }
                    self.did.push(why);
                    return Progress::Changed;
                }
                Err(error) => {
                    last = told(&error);
                    if is_refusal(&error) {
                        return self.after_refusal(bundle, last).await;
                    }
                }
            }
        }
        Waiting::new("OrderersNotReady", format!("no orderer takes a config update: {last}")).into()
    }

    /// Another party may have changed the config meanwhile; then the update is made anew.
    async fn after_refusal(&mut self, bundle: &Bundle, why: String) -> Progress {
        self.read().await;
        let moved = |current: &Current| current.bundle.sequence() != bundle.sequence();
        if self.current.as_ref().is_some_and(moved) {
            return Progress::Changed;
        }
        Waiting::new("UpdateRefused", format!("the orderers refuse a config update: {why}")).into()
    }

    async fn is_on_ledger(&self, node: &NodeRef, sequence: u64) -> bool {
        let deadline = Instant::now() + SETTLE;
        let Ok(participation) = self.access.participation(node) else { return false };
        while Instant::now() < deadline {
            if self.sequence_at(node, &participation).await.is_some_and(|at| at >= sequence) {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }

    async fn sequence_at(&self, node: &NodeRef, participation: &Participation) -> Option<u64> {
        let block = self
            .access
            .within(node, "the config", participation.config_block(self.id))
            .await
            .ok()??;
        let (_, config) = config_block::config_from_block(&block).ok()?;
        Some(config.sequence)
    }
}

fn list(edits: &[Edit]) -> String {
    edits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether an orderer said no to an envelope, as opposed to not being able to take it.
fn is_refusal(error: &ClientError) -> bool {
    matches!(error, ClientError::Broadcast { status: Status::BadRequest | Status::Forbidden, .. })
}

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}
