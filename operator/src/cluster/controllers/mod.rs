//! The controllers, a folder a kind.
//!
//! Each takes five steps: *dereference* ([`scene`]: the objects that belong together, from the
//! caches), *validate* ([`crate::model`]), *build* ([`super::resources`], [`super::identity`]:
//! pure), *apply* ([`super::apply`], [`super::ledger`]) and *status* ([`report`]). A step that
//! cannot be taken ends in a condition that says why; an error means that the API server did
//! not do its part, and is tried again with growing pauses.
//!
//! | Controller | Brings about |
//! | --- | --- |
//! | [`organization`] | authorities, identities, peers |
//! | [`network`] | the ordering service; the state of the whole network |
//! | [`channel`] | genesis block, joins, config |
//! | [`chaincode`] | programs, packages, approvals, definitions |

pub mod chaincode;
pub mod channel;
pub mod context;
pub mod error;
pub mod holder;
pub mod msps;
pub mod network;
pub mod organization;
pub mod quantity;
pub mod reach;
pub mod report;
pub mod rollout;
pub mod scene;
pub mod stores;
pub mod triggers;
pub mod watch;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use context::Context;
use error::ReconcileError;
use report::Managed;
use watch::Requests;

use super::apply::ApplyError;
use super::conditions::{Finding, kind};

/// Objects of a kind that are looked at at the same time.
const CONCURRENCY: u16 = 8;
/// How long a change waits for others of the same object: one `apply` changes many at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Pauses between attempts: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Runs all controllers until `stop` resolves. What is being looked at then is finished.
pub async fn run(context: Context, requests: Requests, stop: impl Future<Output = ()>) {
    let (ending, ended) = tokio::sync::watch::channel(false);
    let stores = &context.stores;
    let controllers = futures::future::join4(
        control(&context, &stores.organizations, requests.organizations, &ended, |c, o| {
            Box::pin(async move { organization::reconcile(&c, &o).await })
        }),
        control(&context, &stores.networks, requests.networks, &ended, |c, o| {
            Box::pin(async move { network::reconcile(&c, &o).await })
        }),
        control(&context, &stores.channels, requests.channels, &ended, |c, o| {
            Box::pin(async move { channel::reconcile(&c, &o).await })
        }),
        control(&context, &stores.chaincodes, requests.chaincodes, &ended, |c, o| {
            Box::pin(async move { chaincode::reconcile(&c, &o).await })
        }),
    );
    let signal = async {
        stop.await;
        let _ = ending.send(true);
    };
    futures::future::join(controllers, signal).await;
}

type Reconciling = std::pin::Pin<Box<dyn Future<Output = Result<Duration, ReconcileError>> + Send>>;

/// One controller: which objects, and what is done with each.
struct Control<K: Managed> {
    context: Context,
    reconcile: fn(Context, Arc<K>) -> Reconciling,
    failures: Mutex<HashMap<String, u32>>,
}

async fn control<K: Managed>(
    context: &Context,
    store: &Store<K>,
    requests: mpsc::Receiver<ObjectRef<K>>,
    ended: &tokio::sync::watch::Receiver<bool>,
    reconcile: fn(Context, Arc<K>) -> Reconciling,
) {
    let control =
        Arc::new(Control { context: context.clone(), reconcile, failures: Mutex::default() });
    let mut ended = ended.clone();
    Controller::for_shared_stream(futures::stream::pending(), store.clone())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .reconcile_on(stream_of(requests))
        .graceful_shutdown_on(async move {
            // Without a sender there is nothing left to run for.
            let _ = ended.wait_for(|ended| *ended).await;
        })
        .run(step, failed, control)
        .for_each(|_| std::future::ready(()))
        .await;
}

fn stream_of<K: Managed>(
    requests: mpsc::Receiver<ObjectRef<K>>,
) -> impl Stream<Item = ObjectRef<K>> {
    futures::stream::unfold(requests, |mut requests| async move {
        requests.recv().await.map(|request| (request, requests))
    })
}

async fn step<K: Managed>(object: Arc<K>, control: Arc<Control<K>>) -> Result<Action, Failed> {
    let timer = control.context.metrics.reconcile(K::KIND);
    let mut result = (control.reconcile)(control.context.clone(), object.clone()).await;
    if let Err(error) = &result
        && !error.can_retry()
        && !error.is_namespace_ending()
    {
        result = refused(&control.context, object.as_ref(), error).await;
    }
    match result {
        Ok(again) => {
            timer.done();
            control.failures.lock().remove(&key_of(object.as_ref()));
            Ok(Action::requeue(again))
        }
        Err(error) => {
            timer.failed();
            Err(Failed(error))
        }
    }
}

/// What trying again cannot mend is told in the status, and looked at again when something
/// changes, or after a while.
async fn refused<K: Managed>(
    context: &Context,
    object: &K,
    error: &ReconcileError,
) -> Result<Duration, ReconcileError> {
    let finding = match error {
        ReconcileError::Apply(ApplyError::Foreign { .. } | ApplyError::Taken { .. }) => {
            Finding::no(kind::PROGRESSING, "NameTaken", error.to_string())
        }
        ReconcileError::Apply(_) => Finding::no(kind::PROGRESSING, "Refused", error.to_string()),
        ReconcileError::Holder(error) => report::of_holder(error),
    };
    let status = object.status().cloned().unwrap_or_default();
    let report = report::Report::held(status, finding, BACKOFF.1);
    Ok(report::conclude(context, object, report).await?)
}

/// A reconciliation that failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Failed(ReconcileError);

fn failed<K: Managed>(object: Arc<K>, error: &Failed, control: Arc<Control<K>>) -> Action {
    if error.0.is_namespace_ending() {
        return Action::requeue(BACKOFF.1);
    }
    let attempts = {
        let mut failures = control.failures.lock();
        let attempts = failures.entry(key_of(object.as_ref())).or_default();
        *attempts = attempts.saturating_add(1);
        *attempts
    };
    let pause = pause_after(attempts);
    tracing::warn!(
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any(),
        attempts,
        error = crate::cli::report(error),
        "failed to reconcile"
    );
    Action::requeue(pause)
}

fn key_of<K: Managed>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn pause_after(attempts: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        assert_eq!(pause_after(1), Duration::from_millis(500));
        assert_eq!(pause_after(3), Duration::from_secs(2));
        assert_eq!(pause_after(1000), Duration::from_secs(60));
    }
}
