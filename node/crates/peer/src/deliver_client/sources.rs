//! The orderers that blocks can be taken from, and which one is next.

use std::time::Duration;

use tokio::time::Instant;
use weft_config::Bundle;
use weft_rpc::tls::{CertificateDer, certificates_from_pem};

/// An orderer, and the authorities that its TLS certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererEndpoint {
    /// `host:port`.
    pub address: String,
    /// Certificates of the TLS authorities of its organization, or of all that order where the
    /// configuration does not say whose it is.
    pub roots: Vec<CertificateDer<'static>>,
}

impl OrdererEndpoint {
    /// The orderers of a channel: the organizations' endpoints, else those of the whole channel.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (owner, endpoint) in bundle.orderer_endpoints() {
            let address = endpoint.to_string();
            if found.iter().any(|known| known.address == address) {
                continue;
            }
            let orgs = bundle.orderer().into_iter().flat_map(|orderer| orderer.orgs.values());
            let orgs = orgs.filter(|org| owner.is_none_or(|owner| org.org.msp_id == *owner));
            let roots = orgs.flat_map(|org| {
                org.org.tls_root_certs().iter().chain(org.org.tls_intermediate_certs())
            });
            let roots = roots.flat_map(|pem| {
                // The configuration's MSPs were checked when it was read; what TLS cannot use
                // simply trusts nobody.
                certificates_from_pem(pem, &address).unwrap_or_default()
            });
            let roots = roots.collect();
            found.push(Self { address, roots });
        }
        found
    }
}

/// How bad a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// It may work again soon.
    Transient,
    /// It sent something false: ask the others first for a good while.
    Distrust,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask this one.
    Ask(OrdererEndpoint),
    /// Every orderer failed lately.
    Wait(Duration),
    /// The configuration names none.
    None,
}

/// The orderers with what is known about them.
#[derive(Debug)]
pub(crate) struct Sources {
    list: Vec<Source>,
    min: Duration,
    max: Duration,
    random: SplitMix,
}

#[derive(Debug)]
struct Source {
    endpoint: OrdererEndpoint,
    failures: u32,
    not_before: Option<Instant>,
}

impl Sources {
    /// No orderers yet. Waits go from `min` to `max`; `seed` sets the order of orderers that are
    /// equally good, so that the peers of a network spread over them.
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { list: Vec::new(), min, max: max.max(min), random: SplitMix(seed) }
    }

    /// Takes over a configuration's orderers. Those that stay keep their record.
    pub(crate) fn update(&mut self, endpoints: Vec<OrdererEndpoint>) {
        let mut before = std::mem::take(&mut self.list);
        let fresh = |endpoint| Source { endpoint, failures: 0, not_before: None };
        self.list = endpoints
            .into_iter()
            .map(|endpoint| {
                let known = before.iter().position(|source| source.endpoint == endpoint);
                known.map(|at| before.swap_remove(at)).unwrap_or_else(|| fresh(endpoint))
            })
            .collect();
    }

    /// Whether an orderer is in the configuration, with the same authorities.
    pub(crate) fn contains(&self, endpoint: &OrdererEndpoint) -> bool {
        self.list.iter().any(|source| source.endpoint == *endpoint)
    }

    /// Every orderer but this one.
    pub(crate) fn others(&self, than: &str) -> Vec<OrdererEndpoint> {
        let others = self.list.iter().filter(|source| source.endpoint.address != than);
        others.map(|source| source.endpoint.clone()).collect()
    }

    /// The orderer to ask: of those that need not wait, one with the fewest failures.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        let waiting = |source: &Source| source.not_before.filter(|until| *until > now);
        let ready: Vec<_> = self.list.iter().filter(|s| waiting(s).is_none()).collect();
        if let Some(fewest) = ready.iter().map(|source| source.failures).min() {
            let best: Vec<_> = ready.iter().filter(|s| s.failures == fewest).collect();
            let pick = self.random.below(best.len());
            if let Some(source) = best.get(pick) {
                return Next::Ask(source.endpoint.clone());
            }
        }
        match self.list.iter().filter_map(waiting).min() {
            Some(until) => Next::Wait(until.duration_since(now)),
            None => Next::None,
        }
    }

    /// Notes a failure: the orderer has to wait.
    pub(crate) fn failed(&mut self, address: &str, severity: Severity, now: Instant) {
        let wait = {
            let Some(source) = self.list.iter_mut().find(|s| s.endpoint.address == address) else {
                return;
            };
            source.failures = source.failures.saturating_add(1);
            match severity {
                Severity::Transient => backoff(self.min, self.max, source.failures),
                Severity::Distrust => self.max,
            }
        };
        // Half of the wait is certain, the other half is up to chance.
        let part = u32::try_from(self.random.below(1000)).unwrap_or_default();
        let wait = wait / 2 + wait * part / 2000;
        if let Some(source) = self.list.iter_mut().find(|s| s.endpoint.address == address) {
            source.not_before = Some(now + wait);
        }
    }

    /// Notes a good block.
    pub(crate) fn succeeded(&mut self, address: &str) {
        if let Some(source) = self.list.iter_mut().find(|s| s.endpoint.address == address) {
            source.failures = 0;
            source.not_before = None;
        }
    }
}

fn backoff(min: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    min.saturating_mul(1 << doublings).min(max)
}

/// Numbers for choices that nobody's security depends on (Steele, Lea, Flood: SplitMix64).
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Next, OrdererEndpoint, Severity, Sources, backoff};

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn endpoint(address: &str) -> OrdererEndpoint {
        OrdererEndpoint { address: address.to_owned(), roots: Vec::new() }
    }

    fn three(seed: u64) -> Sources {
        let mut sources = Sources::new(MIN, MAX, seed);
        sources.update(vec![endpoint("a"), endpoint("b"), endpoint("c")]);
        sources
    }

    fn asked(next: Next) -> String {
        match next {
            Next::Ask(endpoint) => endpoint.address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn spreads_over_the_orderers() {
        let picks: BTreeSet<_> = (0..50).map(|s| asked(three(s).next(Instant::now()))).collect();
        assert_eq!(picks.len(), 3);
    }

    #[test]
    fn turns_to_others_and_comes_back_after_the_wait() {
        let now = Instant::now();
        let mut sources = three(1);
        sources.failed("a", Severity::Transient, now);
        sources.failed("b", Severity::Transient, now);
        assert_eq!(asked(sources.next(now)), "c");
        sources.failed("c", Severity::Distrust, now);
        let Next::Wait(wait) = sources.next(now) else { panic!("all failed") };
        assert!(wait <= MIN && wait >= MIN / 2, "{wait:?}");
        assert_ne!(asked(sources.next(now + MIN)), "c");
        assert!(matches!(sources.next(now + MAX), Next::Ask(_)));
    }

    #[test]
    fn prefers_the_one_with_fewest_failures() {
        let now = Instant::now();
        let mut sources = three(1);
        for address in ["a", "b"] {
            sources.failed(address, Severity::Transient, now);
        }
        assert_eq!(asked(sources.next(now + MAX)), "c");
        sources.failed("c", Severity::Transient, now);
        sources.succeeded("a");
        assert_eq!(asked(sources.next(now)), "a");
    }

    #[test]
    fn keeps_records_over_a_change_of_configuration() {
        let now = Instant::now();
        let mut sources = three(1);
        sources.failed("a", Severity::Transient, now);
        sources.update(vec![endpoint("a"), endpoint("d")]);
        assert_eq!(asked(sources.next(now)), "d");
        assert!(!sources.contains(&endpoint("b")));
        assert_eq!(sources.others("a"), vec![endpoint("d")]);
        sources.update(Vec::new());
        assert_eq!(sources.next(now), Next::None);
    }

    #[test]
    fn doubles_the_wait_up_to_the_longest() {
        let waits: Vec<_> = (1..10).map(|n| backoff(MIN, MAX, n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(backoff(MIN, MAX, u32::MAX), MAX);
    }
}
