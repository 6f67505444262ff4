//! What callers may take of a node: bytes of messages on their way in and out, open calls, and
//! slots of services. Each is bounded for the whole process, and shared fairly by [`Holder`].
//!
//! A holder is an organization: the CA of the TLS certificate that a client has shown, or the MSP
//! id of whoever signed a request, once the signature was verified. Callers that have proved
//! nothing hold by their address, in pools of their own, which are smaller: they never take what
//! belongs to organizations, however many they are.
//!
//! | What | Counted | When there is no more |
//! | --- | --- | --- |
//! | calls | from the head of the request to the end of the answer | RESOURCE_EXHAUSTED |
//! | bytes received | as they arrive, until the message was handled; the first [`ALLOWANCE`] bytes of each call are free | RESOURCE_EXHAUSTED |
//! | bytes sent | from the encoding until they have left | the answer waits |
//! | slots of a service | by the service, once the caller is known | RESOURCE_EXHAUSTED |
//!
//! A message has to begin, and to end, in time: see [`BudgetOptions`]. HTTP/2 windows are not
//! counted: bytes wait in them only while a call does not read, which calls of strangers always
//! do. Those of organizations are bounded by their share of the connections.

mod body;
mod framing;
mod holder;
mod layer;
mod method;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts, Registry};
use tonic::Status;
use weft_settings::Limits;

use crate::metrics::field;
use crate::shares::{Exhausted, Share, Shares};

pub use holder::Holder;
pub use layer::BudgetLayer;
pub use slots::{Full, Slot, Slots};

/// Bytes that a call may have received without a share: enough for a transaction. So a caller
/// with short messages is served while others at its address send long ones.
pub const ALLOWANCE: usize = 16 * 1024;

/// Units for organizations, and for strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// For callers of known organizations.
    pub organizations: usize,
    /// For callers that have proved nothing.
    pub strangers: usize,
}

/// Limits of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetOptions {
    /// Calls open at one time.
    pub calls: Quota,
    /// Bytes of messages being received or handled.
    pub received: Quota,
    /// Bytes of answers that have not left.
    pub sent: Quota,
    /// Largest message, bytes.
    pub max_message: usize,
    /// Largest message of a method that only asks, bytes.
    pub max_query: usize,
    /// Time for the first message of a call to begin.
    pub first_message: Duration,
    /// Time for a message to arrive, once it has begun.
    pub message: Duration,
}

impl From<&Limits> for BudgetOptions {
    fn from(limits: &Limits) -> Self {
        let quota = |organizations, strangers| Quota { organizations, strangers };
        Self {
            calls: quota(limits.max_calls, limits.stranger_calls),
            received: quota(limits.receive_bytes, limits.stranger_receive_bytes),
            sent: quota(limits.send_bytes, limits.stranger_send_bytes),
            max_message: limits.max_message_bytes,
            max_query: limits.max_query_bytes.min(limits.max_message_bytes),
            first_message: limits.first_message_timeout,
            message: limits.message_timeout,
        }
    }
}

/// Counts what was refused, by reason and kind of caller. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Option<IntCounterVec>);

impl Refusals {
    /// Makes the counter `grpc_server_refused` in a registry.
    ///
    /// # Errors
    /// When the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Connections, calls and messages that were refused for want of a share or time.";
        let labels = [field::REASON, field::CALLER];
        let refused = IntCounterVec::new(Opts::new("grpc_server_refused", help), &labels)?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self(Some(refused)))
    }

    pub(crate) fn count(&self, reason: &'static str, holder: &Holder) {
        if let Some(refused) = &self.0 {
            refused.with_label_values(&[reason, holder.class()]).inc();
        }
    }
}

/// Pools of one resource.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    organizations: Shares<Holder>,
    strangers: Shares<Holder>,
}

impl Pools {
    pub(crate) fn new(quota: Quota) -> Self {
        let organizations = Shares::new(quota.organizations);
        Self { organizations, strangers: Shares::new(quota.strangers) }
    }

    /// The pool of a holder.
    pub(crate) fn of(&self, holder: &Holder) -> &Shares<Holder> {
        if holder.is_stranger() { &self.strangers } else { &self.organizations }
    }

    pub(crate) fn take(&self, holder: &Holder, units: usize) -> Result<Share<Holder>, Exhausted> {
        self.of(holder).try_take(holder, units)
    }
}

/// The budget of a process. Clones share it; use one for all listeners.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: BudgetOptions,
    calls: Pools,
    received: Pools,
    sent: Pools,
    refusals: Refusals,
}

impl Budget {
    /// A budget that nobody has taken of.
    #[must_use]
    pub fn new(options: BudgetOptions, refusals: Refusals) -> Self {
        Self(Arc::new(Inner {
            options,
            calls: Pools::new(options.calls),
            received: Pools::new(options.received),
            sent: Pools::new(options.sent),
            refusals,
        }))
    }

    /// What counts refusals.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Slots of a service, such as `deliver`, for organizations.
    #[must_use]
    pub fn slots(&self, what: &'static str, total: usize) -> Slots {
        Slots::new(what, total).counted(self.refusals())
    }

    fn enter(&self, holder: Holder) -> Result<Call, Status> {
        let call = self.0.calls.take(&holder, 1);
        let call = call.map_err(|exhausted| self.refuse(reason::CALLS, &holder, exhausted))?;
        let held = Held { holder, _call: call, received: None };
        Ok(Call(Arc::new(CallInner { budget: self.clone(), held: Mutex::new(held) })))
    }

    fn refuse(&self, reason: &'static str, holder: &Holder, exhausted: Exhausted) -> Status {
        self.0.refusals.count(reason, holder);
        Status::resource_exhausted(format!(
            "{} of this node: {exhausted}",
            reason.replace('_', " ")
        ))
    }
}

/// Why something is refused, as metrics' labels have it.
pub(crate) mod reason {
    pub(crate) const CONNECTIONS: &str = "connections";
    pub(crate) const CALLS: &str = "calls";
    pub(crate) const RECEIVED: &str = "received_bytes";
    pub(crate) const MESSAGE_SIZE: &str = "message_size";
    pub(crate) const FIRST_MESSAGE: &str = "first_message_timeout";
    pub(crate) const MESSAGE: &str = "message_timeout";
}

/// What an open call holds. Every request of a server of this crate carries it as an extension;
/// it ends with the request, the answer, and all clones.
#[derive(Debug, Clone)]
pub struct Call(Arc<CallInner>);

#[derive(Debug)]
struct CallInner {
    budget: Budget,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    _call: Share<Holder>,
    received: Option<Share<Holder>>,
}

impl Call {
    /// That of a request; `None` when it did not come through a server of this crate.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.0.held.lock().holder.clone()
    }

    /// The caller has proved that it is `holder`: what the call holds is that one's from now on.
    /// A caller that was known by its TLS certificate stays what it was.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when the holder has its share.
    pub fn own(&self, holder: &Holder) -> Result<Holder, Status> {
        let mut held = self.0.held.lock();
        if !held.holder.is_stranger() {
            return Ok(held.holder.clone());
        }
        let inner = &self.0.budget.0;
        let refused = |reason| move |e| self.0.budget.refuse(reason, holder, e);
        let call = inner.calls.take(holder, 1).map_err(refused(reason::CALLS))?;
        let bytes = held.received.as_ref().map(Share::units);
        let received = bytes.map(|bytes| inner.received.take(holder, bytes)).transpose();
        let received = received.map_err(refused(reason::RECEIVED))?;
        *held = Held { holder: holder.clone(), _call: call, received };
        Ok(holder.clone())
    }

    /// Holds what is above the allowance of `bytes` that were received and not handled.
    fn receive(&self, bytes: usize) -> Result<(), Status> {
        let units = bytes.saturating_sub(ALLOWANCE);
        let mut held = self.0.held.lock();
        let held = &mut *held;
        let more = units.saturating_sub(held.received.as_ref().map_or(0, Share::units));
        if more == 0 {
            match &mut held.received {
                Some(share) if units > 0 => share.shrink_to(units),
                _ => held.received = None,
            }
            return Ok(());
        }
        let grown = match &mut held.received {
            Some(share) => share.grow(more),
            None => {
                let taken = self.0.budget.0.received.take(&held.holder, more);
                taken.map(|share| held.received = Some(share))
            }
        };
        grown.map_err(|e| self.0.budget.refuse(reason::RECEIVED, &held.holder, e))
    }

    fn budget(&self) -> &Inner {
        &self.0.budget.0
    }
}

#[cfg(test)]
mod tests;
