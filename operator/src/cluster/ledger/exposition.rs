//! Prometheus' text exposition format, read as far as gauges and counters need it. Pure.
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>.)
//!
//! A line is `name{label="value",…} number [timestamp]`; `#` begins a comment. A line that does
//! not have that form is skipped: one broken line of one metric must not hide the others.

use std::collections::BTreeMap;

/// One measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Every sample of a text.
pub fn read(text: &str) -> Vec<Sample> {
    text.lines().filter_map(sample).collect()
}

/// The value of a metric for one channel, as a whole number that is not negative.
pub fn of_channel(samples: &[Sample], name: &str, channel: &str) -> Option<u64> {
    let is_it = |sample: &&Sample| {
        sample.name == name && sample.labels.get("channel").is_some_and(|found| found == channel)
    };
    let value = samples.iter().find(is_it)?.value;
    // Beyond 2^53 a float does not hold whole numbers any more.
    let whole = value >= 0.0 && value.fract() == 0.0 && value <= 9_007_199_254_740_992.0;
    whole.then_some(value as u64)
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let timestamp = words.next().is_none_or(|word| word.parse::<i64>().is_ok());
    let ends = words.next().is_none();
    (timestamp && ends).then(|| Sample { name: name.to_owned(), labels, value })
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.insert(name.trim().to_owned(), value);
        text = rest.trim_start();
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return None,
        }
    }
}

/// The text up to the closing quotation mark without its escapes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_channels_are_found_among_everything_else() {
        let text = "# HELP consensus_term The engine's term.\n# TYPE consensus_term gauge\n\
                    consensus_term{channel=\"supply\"} 3\n\
                    consensus_term{channel=\"side\",} 7 1700000000000\n\
                    process_cpu_seconds_total 0.5\n\
                    blockcutter_block_size_bucket{channel=\"supply\",le=\"+Inf\"} 4\n\
                    participation_height{channel=\"odd \\\"}\\\\ name\"} 9\n\
                    consensus_role{channel=\"supply\"} NaN\n";
        let samples = read(text);
        assert_eq!(samples.len(), 6);
        assert_eq!(of_channel(&samples, "consensus_term", "supply"), Some(3));
        assert_eq!(of_channel(&samples, "consensus_term", "side"), Some(7));
        assert_eq!(of_channel(&samples, "participation_height", "odd \"}\\ name"), Some(9));
        assert_eq!(of_channel(&samples, "consensus_role", "supply"), None);
        assert_eq!(of_channel(&samples, "consensus_term", "other"), None);
    }

    #[test]
    fn lines_of_another_form_are_left_out() {
        for line in
            ["term", "9term 1", "a{b=\"c\" 1", "a{b=c} 1", "a x", "a 1 2 3", "a{b=\"c\"d=\"e\"} 1"]
        {
            assert_eq!(read(line), [], "{line}");
        }
        assert_eq!(read("a 1\nbroken{\nb 2").len(), 2);
    }
}
