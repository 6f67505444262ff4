//! Leader election: of several replicas one reconciles, the others stand by.
//!
//! A Lease of `coordination.k8s.io` holds the leader's name. Whether another replica's lease has
//! run out is judged by this replica's own clock, from when it last saw the lease change (as
//! `client-go/tools/leaderelection` does): clocks of machines need not agree. Writes carry the
//! version that was read, so that of two candidates one wins. A leader that cannot renew stops
//! before others may take over.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep, timeout};

use super::names::MANAGER;

/// Times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long a lease holds after it was last renewed.
    pub lease: Duration,
    /// How long a leader tries to renew before it gives up. Less than `lease`.
    pub deadline: Duration,
    /// Pause between attempts.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(3),
        }
    }
}

/// A candidate.
#[derive(Clone)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    times: Times,
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    lease: Lease,
    /// When its renewal was last seen to change, by the own clock.
    since: Instant,
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// There is no lease: make it.
    Create,
    /// It is nobody's, its time is up, or it is one's own: write one's name.
    Take,
    /// It is another's.
    Wait,
}

impl Election {
    /// A candidate of that name (its pod's) for a lease.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        times: Times,
    ) -> Election {
        Election {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            times,
        }
    }

    /// Waits until this candidate leads.
    pub async fn lead(&self) -> Leadership {
        let mut seen = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(true) => {
                    tracing::info!(lease = self.name, identity = self.identity, "leads");
                    return Leadership { election: self.clone(), seen };
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "failed to ask for the lease");
                }
            }
            sleep(self.times.retry).await;
        }
    }

    /// Reads the lease and takes it if that may be done; whether it is this candidate's now.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let now = Instant::now();
        let found = self.api.get_opt(&self.name).await?;
        *seen = found.map(|lease| observe(seen.take(), lease, now));
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let written = match decide(seen.as_ref(), &self.identity, now) {
            Step::Wait => return Ok(false),
            Step::Create => self.api.create(&params, &self.mine(None)).await,
            Step::Take => {
                let before = seen.as_ref().map(|seen| &seen.lease);
                self.api.replace(&self.name, &params, &self.mine(before)).await
            }
        };
        match written {
            Ok(lease) => {
                *seen = Some(Seen { lease, since: now });
                Ok(true)
            }
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The lease with this candidate's name in it.
    fn mine(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let keeps = spec.holder_identity.as_deref() == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: before.and_then(|one| one.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.times.lease.as_secs()).ok(),
                acquire_time: spec.acquire_time.filter(|_| keeps).or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if keeps { transitions } else { transitions + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// The lease as it is now; the clock starts anew only when somebody renewed it.
fn observe(before: Option<Seen>, lease: Lease, now: Instant) -> Seen {
    let since = match before {
        Some(seen) if seen.lease.spec == lease.spec => seen.since,
        _ => now,
    };
    Seen { lease, since }
}

fn decide(seen: Option<&Seen>, identity: &str, now: Instant) -> Step {
    let Some(seen) = seen else { return Step::Create };
    let spec = seen.lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let lease = Duration::from_secs(seconds.unwrap_or(0));
    let is_over = now.duration_since(seen.since) >= lease;
    if holder.is_empty() || holder == identity || is_over { Step::Take } else { Step::Wait }
}

/// The lease is this candidate's.
pub struct Leadership {
    election: Election,
    seen: Option<Seen>,
}

impl Leadership {
    /// Renews the lease; returns when it is lost. Whoever leads must stop then at once.
    pub async fn keep(&mut self) {
        let times = self.election.times;
        let mut renewed = Instant::now();
        loop {
            sleep(times.retry).await;
            let left = times.deadline.saturating_sub(renewed.elapsed());
            match timeout(left, self.election.attempt(&mut self.seen)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.election.name, "another replica took the lease");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.election.name, %error, "failed to renew the lease");
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= times.deadline {
                tracing::error!(lease = self.election.name, "the lease could not be renewed");
                return;
            }
        }
    }

    /// Gives the lease back, so that another replica need not wait until its time is up.
    pub async fn release(self) {
        let Some(seen) = self.seen else { return };
        let mut lease = self.election.mine(Some(&seen.lease));
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        if let Err(error) = self.election.api.replace(&self.election.name, &params, &lease).await {
            tracing::debug!(lease = self.election.name, %error, "failed to give the lease back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, since: Instant) -> Seen {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        Seen { lease: Lease { spec: Some(spec), ..Lease::default() }, since }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_and_never_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(decide(None, "a", start), Step::Create);
        assert_eq!(decide(Some(&seen("", start)), "a", start), Step::Take);
        assert_eq!(decide(Some(&seen("a", start)), "a", at(5)), Step::Take);
        assert_eq!(decide(Some(&seen("b", start)), "a", at(14)), Step::Wait);
        assert_eq!(decide(Some(&seen("b", start)), "a", at(15)), Step::Take);
    }

    #[test]
    fn only_a_renewal_starts_the_clock_anew() {
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        let first = observe(None, seen("b", start).lease, start);
        let same = observe(Some(first.clone()), first.lease.clone(), later);
        assert_eq!(same.since, start);
        let mut renewed = first.lease.clone();
        renewed.spec.as_mut().unwrap().lease_transitions = Some(1);
        assert_eq!(observe(Some(first), renewed, later).since, later);
    }
}
