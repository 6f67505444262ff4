//! Health checks by name, and what a node does without.
//!
//! Probes restart a node that is unhealthy, so a check fails only for what a restart may mend.
//! What concerns a part of the node, such as one channel, is a degradation: it is told beside
//! the checks, and the node goes on to serve the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use serde::Serialize;

/// A check that does not answer in this time has failed.
const LIMIT: Duration = Duration::from_secs(5);

type Parts = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;
type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The checks of a node. Clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<BTreeMap<String, Check>>>,
    degradations: Arc<RwLock<BTreeMap<String, Parts>>>,
}

/// A check that failed, or a part that does not serve, as `/healthz` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedCheck {
    /// Name of the component.
    pub component: String,
    /// What is wrong.
    pub reason: String,
}

impl Health {
    /// No checks: healthy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, or replaces the one of that name. It must not block; it has 5 s.
    pub fn register<F, R>(&self, component: impl Into<String>, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.write().insert(component.into(), check);
    }

    /// Adds a component of which parts may not serve while the node does; `parts` returns the
    /// name of each such part and why it does not. It must not block.
    pub fn register_parts(
        &self,
        component: impl Into<String>,
        parts: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static,
    ) {
        self.degradations.write().insert(component.into(), Arc::new(parts));
    }

    /// The parts that do not serve; each has a component `COMPONENT/PART`.
    pub fn degraded(&self) -> Vec<FailedCheck> {
        let components: Vec<_> = {
            let registered = self.degradations.read();
            registered.iter().map(|(name, parts)| (name.clone(), parts.clone())).collect()
        };
        let of = |(component, parts): (String, Parts)| {
            let parts = parts().into_iter();
            parts.map(move |(part, reason)| FailedCheck {
                component: format!("{component}/{part}"),
                reason,
            })
        };
        components.into_iter().flat_map(of).collect()
    }

    /// Removes a check.
    pub fn deregister(&self, component: &str) {
        self.checks.write().remove(component);
    }

    /// Runs all checks at once and returns those that failed, by name.
    pub async fn run(&self) -> Vec<FailedCheck> {
        let checks: Vec<_> = {
            let checks = self.checks.read();
            checks.iter().map(|(name, check)| (name.clone(), check.clone())).collect()
        };
        let runs = checks.into_iter().map(|(component, check)| async move {
            let result = tokio::time::timeout(LIMIT, check()).await;
            let reason = match result {
                Ok(Ok(())) => return None,
                Ok(Err(reason)) => reason,
                Err(_) => format!("no answer in {} s", LIMIT.as_secs()),
            };
            Some(FailedCheck { component, reason })
        });
        join_all(runs).await.into_iter().flatten().collect()
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.checks.read().keys()).finish()
    }
}
