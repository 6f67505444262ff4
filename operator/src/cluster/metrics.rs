//! What the operator counts about itself and the networks in its care.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use weft_types::Timestamp;

/// Labels, which are fields of log lines as well.
pub mod field {
    /// Kind of an object.
    pub const KIND: &str = "kind";
    /// Namespace of an object.
    pub const NAMESPACE: &str = "namespace";
    /// Name of an object.
    pub const NAME: &str = "name";
    /// `success` or `error`.
    pub const RESULT: &str = "result";
    /// What was done.
    pub const VERB: &str = "verb";
    /// `signing` or `tls`.
    pub const CERTIFICATE: &str = "certificate";
    /// Name of a network.
    pub const NETWORK: &str = "network";
    /// Name of a channel.
    pub const CHANNEL: &str = "channel";
    /// Name of a node.
    pub const NODE: &str = "node";
}

/// An object, as metrics name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The metrics of the operator. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    durations: HistogramVec,
    writes: IntCounterVec,
    ready: IntGaugeVec,
    certificates: IntGaugeVec,
    heights: IntGaugeVec,
    leader: IntGauge,
    /// Channels and nodes whose heights are shown.
    shown: Arc<Mutex<BTreeSet<(ObjectKey, String, String)>>>,
}

impl Metrics {
    /// Makes the metrics in a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let options = HistogramOpts::new(
            "weft_operator_reconcile_duration_seconds",
            "Time to look at an object and do what is due.",
        );
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 15.0];
        let durations = HistogramVec::new(options.buckets(buckets), &[field::KIND])?;
        registry.register(Box::new(durations.clone()))?;
        let leader = IntGauge::new(
            "weft_operator_leader",
            "1 on the replica that reconciles, 0 on one that stands by.",
        )?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Metrics {
            reconciles: counter(
                "weft_operator_reconcile_total",
                "Times that an object was looked at.",
                &[field::KIND, field::RESULT],
            )?,
            writes: counter(
                "weft_operator_writes_total",
                "Writes to the API server.",
                &[field::KIND, field::VERB],
            )?,
            ready: gauge(
                "weft_operator_ready",
                "1 for an object whose condition Ready is True, 0 for another.",
                &[field::NAMESPACE, field::KIND, field::NAME],
            )?,
            certificates: gauge(
                "weft_operator_certificate_expiry_seconds",
                "When a certificate of a node, user or contract ends, in seconds since 1970.",
                &[field::NAMESPACE, field::NAME, field::CERTIFICATE],
            )?,
            heights: gauge(
                "weft_operator_ledger_height",
                "Number of blocks of a channel at a node.",
                &[field::NAMESPACE, field::NETWORK, field::CHANNEL, field::NODE],
            )?,
            durations,
            leader,
            shown: Arc::default(),
        })
    }

    /// Begins to look at an object.
    pub fn reconcile(&self, kind: &'static str) -> Reconciling {
        Reconciling { metrics: self.clone(), kind, began: Instant::now() }
    }

    /// A write to the API server.
    pub fn write(&self, kind: &str, verb: &str) {
        self.writes.with_label_values(&[kind, verb]).inc();
    }

    /// Whether an object is ready.
    pub fn ready(&self, object: &ObjectKey, kind: &str, ready: bool) {
        let labels = [object.namespace.as_str(), kind, object.name.as_str()];
        self.ready.with_label_values(&labels).set(i64::from(ready));
    }

    /// When a certificate ends.
    pub fn certificate(&self, namespace: &str, name: &str, which: &str, ends: Timestamp) {
        self.certificates.with_label_values(&[namespace, name, which]).set(ends.seconds());
    }

    /// The height of a channel at a node.
    pub fn height(&self, channel: &ObjectKey, network: &str, node: &str, height: u64) {
        let labels = [channel.namespace.as_str(), network, channel.name.as_str(), node];
        self.shown.lock().insert((channel.clone(), network.to_owned(), node.to_owned()));
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        self.heights.with_label_values(&labels).set(height);
    }

    /// Whether this replica reconciles.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Lets the series of an object go that is no longer there.
    pub fn forget(&self, kind: &str, object: &ObjectKey) {
        // A series that never was has nothing to remove.
        let (namespace, name) = (object.namespace.as_str(), object.name.as_str());
        let _ = self.ready.remove_label_values(&[namespace, kind, name]);
        for which in ["signing", "tls"] {
            let _ = self.certificates.remove_label_values(&[namespace, name, which]);
        }
        if kind != "Channel" {
            return;
        }
        let mut shown = self.shown.lock();
        let (gone, kept) =
            std::mem::take(&mut *shown).into_iter().partition(|(channel, _, _)| channel == object);
        *shown = kept;
        let gone: BTreeSet<_> = gone;
        for (channel, network, node) in gone {
            let labels = [channel.namespace.as_str(), &network, &channel.name, &node];
            let _ = self.heights.remove_label_values(&labels);
        }
    }
}

/// An object that is being looked at.
pub struct Reconciling {
    metrics: Metrics,
    kind: &'static str,
    began: Instant,
}

impl Reconciling {
    /// It came to its end.
    pub fn done(self) {
        self.count("success");
    }

    /// It is to be tried again.
    pub fn failed(self) {
        self.count("error");
    }

    fn count(self, result: &str) {
        self.metrics.reconciles.with_label_values(&[self.kind, result]).inc();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.durations.with_label_values(&[self.kind]).observe(seconds);
    }
}
