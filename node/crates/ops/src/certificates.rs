//! When the certificates in use end, and whether renewed ones were refused.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntGauge, Registry};
use weft_types::Timestamp;

const EXPIRY: &str = "weft_certificate_expiry_seconds";
const EXPIRY_HELP: &str = "Unix time at which the certificate in use ends.";
const REFUSED: &str = "weft_identity_refused";
const REFUSED_HELP: &str =
    "1 while the MSP folder holds what the node does not take over, 0 otherwise.";
const LABEL: &str = "certificate";

/// Tells when the certificate in use ends; `None` without one.
pub type Expiry = Box<dyn Fn() -> Option<Timestamp> + Send + Sync>;

/// Shows `weft_certificate_expiry_seconds`, by kind of certificate (`signing`, `tls`). It is asked
/// for whenever metrics are read, so that it is always that of the certificate in use.
///
/// # Errors
/// The registry's, when the name is taken.
pub fn register_expiry(
    registry: &Registry,
    certificates: Vec<(&'static str, Expiry)>,
) -> Result<(), prometheus::Error> {
    let labels = vec![LABEL.to_owned()];
    let desc = Desc::new(EXPIRY.to_owned(), EXPIRY_HELP.to_owned(), labels, HashMap::new())?;
    registry.register(Box::new(ExpiryCollector { desc, certificates }))
}

/// Shows `weft_identity_refused`, which is returned to be set.
///
/// # Errors
/// The registry's, when the name is taken.
pub fn register_refused(registry: &Registry) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(REFUSED, REFUSED_HELP)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

struct ExpiryCollector {
    desc: Desc,
    certificates: Vec<(&'static str, Expiry)>,
}

impl Collector for ExpiryCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shown = self.certificates.iter();
        let metrics: Vec<_> =
            shown.filter_map(|(name, expiry)| expiry().map(|at| metric(name, at))).collect();
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(EXPIRY.to_owned());
        family.set_help(EXPIRY_HELP.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics);
        vec![family]
    }
}

fn metric(name: &str, at: Timestamp) -> Metric {
    let mut label = LabelPair::default();
    label.set_name(LABEL.to_owned());
    label.set_value(name.to_owned());
    let mut gauge = Gauge::default();
    // Seconds since 1970 are exact in a double for millions of years.
    gauge.set_value(at.seconds() as f64);
    let mut metric = Metric::from_label(vec![label]);
    metric.set_gauge(gauge);
    metric
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::metrics::encode;

    #[test]
    fn the_expiry_is_that_of_the_certificate_in_use() {
        let registry = Registry::new();
        let end = Arc::new(AtomicI64::new(1_800_000_000));
        let of = Arc::clone(&end);
        let signing = move || Some(Timestamp::from_seconds(of.load(Ordering::Relaxed)));
        register_expiry(
            &registry,
            vec![("signing", Box::new(signing)), ("tls", Box::new(|| None))],
        )
        .unwrap();
        let shown = || encode(&registry).unwrap();
        let line = |end: i64| format!("{EXPIRY}{{certificate=\"signing\"}} {end}\n");
        assert!(shown().contains(&line(1_800_000_000)), "{}", shown());
        assert!(!shown().contains("tls"));
        end.store(1_900_000_000, Ordering::Relaxed);
        assert!(shown().contains(&line(1_900_000_000)), "{}", shown());
    }
}
