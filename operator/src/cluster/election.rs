//! Leader election: of several replicas one reconciles, by a Lease (`coordination.k8s.io/v1`).
//!
//! [`Candidate`] decides, and knows no clock and no network; [`Election`] asks, writes and waits.
//! The rules are those of Kubernetes' own components (client-go, `leaderelection`), so that the
//! Lease reads as people expect:
//!
//! - A Lease is replaced only over the version that was read: of two that take it one is refused.
//! - Another's Lease has run out when it has not *changed* for its duration by our own clock. The
//!   times written in it are for people; clocks of two machines are never compared.
//! - A leader counts from the moment at which it asked for its last renewal, and stops at
//!   [`Times::deadline`], before anybody else may begin at [`Times::lease`].
//! - A leader that ends gives the Lease back, and another takes it at its next look.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::Client;
use kube::api::{Api, PostParams};

use super::names::MANAGER;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// How long things take in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long others leave a Lease alone that does not change.
    pub lease: Duration,
    /// How long a leader leads without a renewal. Shorter than `lease`.
    pub deadline: Duration,
    /// Time between two renewals, and between two looks of one that stands by. Shorter than
    /// `deadline`.
    pub renew: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renew: Duration::from_secs(5),
        }
    }
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write this into the Lease, making it when there is none.
    Write(Box<LeaseSpec>),
    /// Look again after this time.
    Wait(Duration),
    /// It led and does so no longer.
    Lost,
}

/// The Lease as last seen.
#[derive(Clone, Debug)]
struct Seen {
    spec: LeaseSpec,
    /// When it was first seen so.
    since: Duration,
}

/// One replica in an election. Times are those since any fixed moment, by a clock that only goes
/// forward.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    times: Times,
    seen: Option<Seen>,
    /// When the last renewal that was granted was asked for.
    renewed: Option<Duration>,
}

impl Candidate {
    /// A candidate that has seen nothing. The identity is its own alone, also among its earlier
    /// runs.
    pub fn new(identity: impl Into<String>, times: Times) -> Candidate {
        Candidate { identity: identity.into(), times, seen: None, renewed: None }
    }

    /// Whether it leads now.
    pub fn leads(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|renewed| now < renewed.saturating_add(self.times.deadline))
    }

    /// How long an answer is worth waiting for.
    pub fn patience(&self, now: Duration) -> Duration {
        match self.renewed {
            Some(renewed) => renewed.saturating_add(self.times.deadline).saturating_sub(now),
            None => self.times.deadline,
        }
    }

    /// The Lease was read; `now` is when the answer came.
    pub fn saw(&mut self, spec: Option<&LeaseSpec>, now: Duration) {
        let is_same = self.seen.as_ref().map(|seen| &seen.spec) == spec;
        if !is_same {
            self.seen = spec.map(|spec| Seen { spec: spec.clone(), since: now });
        }
    }

    /// A [`Step::Write`] was granted that was asked for at `asked`.
    pub fn wrote(&mut self, spec: &LeaseSpec, asked: Duration) {
        self.renewed = Some(asked);
        self.seen = Some(Seen { spec: spec.clone(), since: asked });
    }

    /// What to do about the Lease as last seen. `wall` is written into it, for people.
    pub fn decide(&self, now: Duration, wall: jiff::Timestamp) -> Step {
        if self.renewed.is_some() && (!self.leads(now) || !self.is_mine()) {
            return Step::Lost;
        }
        let Some(seen) = &self.seen else {
            return Step::Write(Box::new(self.claim(None, wall)));
        };
        let free = self.free_at(seen);
        if self.is_mine() || now >= free {
            return Step::Write(Box::new(self.claim(Some(&seen.spec), wall)));
        }
        Step::Wait(self.times.renew.min(free.saturating_sub(now)))
    }

    /// What the Lease says when it is given back.
    pub fn release(&self, wall: jiff::Timestamp) -> Option<LeaseSpec> {
        let seen = self.seen.as_ref().filter(|_| self.renewed.is_some() && self.is_mine())?;
        Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..seen.spec.clone()
        })
    }

    fn is_mine(&self) -> bool {
        let holder = self.seen.as_ref().and_then(|seen| seen.spec.holder_identity.as_deref());
        holder == Some(&self.identity)
    }

    /// The holder may count by a longer duration than ours: the longer one holds.
    fn free_at(&self, seen: &Seen) -> Duration {
        if seen.spec.holder_identity.as_deref().is_none_or(str::is_empty) {
            return seen.since;
        }
        let stated = seen.spec.lease_duration_seconds.and_then(|one| u64::try_from(one).ok());
        let stated = stated.map(Duration::from_secs).unwrap_or_default();
        seen.since.saturating_add(self.times.lease.max(stated))
    }

    fn claim(&self, before: Option<&LeaseSpec>, wall: jiff::Timestamp) -> LeaseSpec {
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let (acquired, transitions) = match before {
            Some(spec) if self.is_mine() => (spec.acquire_time.clone(), transitions),
            Some(_) => (None, transitions.saturating_add(1)),
            None => (None, 0),
        };
        let seconds = self.times.lease.as_millis().div_ceil(1000);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: acquired.or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// An election by the Lease of a name.
pub struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    /// The Lease as last read or written, with its version.
    lease: Option<Lease>,
    /// Whether `lease` is what the API server has, as far as is known.
    fresh: bool,
    began: Instant,
}

impl Election {
    /// A candidacy for the Lease `namespace`/`name`. The identity is that of one process: a new
    /// one may have it when the old one has ended.
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
            candidate: Candidate::new(identity, times),
            lease: None,
            fresh: false,
            began: Instant::now(),
        }
    }

    /// Stands by until this replica leads.
    pub async fn lead(mut self) -> Leadership {
        loop {
            self.round().await;
            if self.candidate.leads(self.now()) {
                let identity = &self.candidate.identity;
                tracing::info!(lease = self.name, identity, "this replica leads");
                return Leadership { election: self };
            }
        }
    }

    /// One look, one write where it is due, and the pause after it. `false` once it is lost.
    async fn round(&mut self) -> bool {
        let renew = self.candidate.times.renew;
        let was_leading = self.candidate.renewed.is_some();
        // Half of it: after a request without an answer there is time for another one.
        let limit = self.candidate.patience(self.now()).min(renew / 2);
        let pause = match tokio::time::timeout(limit, self.attempt()).await {
            Ok(Ok(Attempt::Lost)) => return false,
            Ok(Ok(Attempt::Wait(pause))) => pause,
            Ok(Ok(Attempt::Written)) => renew,
            Ok(Ok(Attempt::Refused)) => renew / 5,
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "failed to read or write the Lease");
                self.fresh = false;
                renew / 5
            }
            Err(_) => {
                tracing::warn!(lease = self.name, "the API server does not answer");
                self.fresh = false;
                renew / 5
            }
        };
        if !was_leading && self.candidate.leads(self.now()) {
            return true;
        }
        let until_lost = self.candidate.patience(self.now());
        tokio::time::sleep(pause.min(until_lost)).await;
        self.candidate.renewed.is_none() || self.candidate.leads(self.now())
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        self.refresh().await?;
        let asked = self.now();
        let spec = match self.candidate.decide(asked, jiff::Timestamp::now()) {
            Step::Lost => return Ok(Attempt::Lost),
            Step::Wait(pause) => {
                self.fresh = false;
                return Ok(Attempt::Wait(pause));
            }
            Step::Write(spec) => spec,
        };
        // Whatever comes of a write that is broken off: the Lease is read again.
        self.fresh = false;
        match self.write(&spec).await {
            Ok(lease) => {
                self.candidate.wrote(lease.spec.as_ref().unwrap_or(&spec), asked);
                self.lease = Some(lease);
                self.fresh = true;
                Ok(Attempt::Written)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!(lease = self.name, "another one was faster");
                Ok(Attempt::Refused)
            }
            Err(error) => Err(error),
        }
    }

    async fn refresh(&mut self) -> Result<(), kube::Error> {
        if !self.fresh {
            self.lease = self.api.get_opt(&self.name).await?;
            let spec = self.lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
            self.candidate.saw(spec.as_ref(), self.now());
            self.fresh = true;
        }
        Ok(())
    }

    async fn write(&self, spec: &LeaseSpec) -> Result<Lease, kube::Error> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let Some(mut lease) = self.lease.clone() else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(spec.clone()),
            };
            return self.api.create(&params, &lease).await;
        };
        lease.spec = Some(spec.clone());
        self.api.replace(&self.name, &params, &lease).await
    }

    async fn give_back(&mut self) -> Result<bool, kube::Error> {
        self.refresh().await?;
        match self.candidate.release(jiff::Timestamp::now()) {
            Some(spec) => self.write(&spec).await.map(|_| true),
            None => Ok(false),
        }
    }
}

/// What came of one look at the Lease.
enum Attempt {
    Written,
    Refused,
    Wait(Duration),
    Lost,
}

/// The Lease of a replica that leads.
pub struct Leadership {
    election: Election,
}

impl Leadership {
    /// Renews the Lease; ends when it was not renewed in time or is another's. The process must
    /// then do nothing more as a leader: it exits.
    pub async fn keep(&mut self) {
        // It has just been taken or renewed.
        let candidate = &self.election.candidate;
        let pause = candidate.patience(self.election.now()).min(candidate.times.renew);
        tokio::time::sleep(pause).await;
        while self.election.round().await {}
        tracing::error!(lease = self.election.name, "lost the Lease");
    }

    /// Gives the Lease back, so that others need not wait. Best effort: one that is not given
    /// back runs out.
    pub async fn release(mut self) {
        let limit = self.election.candidate.times.renew;
        let given = tokio::time::timeout(limit, self.election.give_back()).await;
        let lease = &self.election.name;
        match given {
            Ok(Ok(true)) => tracing::info!(lease, "gave the Lease back"),
            Ok(Ok(false)) => tracing::info!(lease, "the Lease is another's already"),
            Ok(Err(error)) => tracing::warn!(lease, %error, "failed to give the Lease back"),
            Err(_) => tracing::warn!(lease, "failed to give the Lease back in time"),
        }
    }
}
