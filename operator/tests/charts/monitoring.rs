//! Alerts, dashboards and what they need: metrics and labels that exist, a page a rule.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use weft_operator::cluster::names::{MANAGER, component, label};

use crate::{files, json, root, text, texts_below, yaml};

const ALERTS: &str = "charts/weft-operator/files/alerts.yaml";
const DASHBOARDS: &str = "charts/weft-operator/files/dashboards";
const RUNBOOKS: &str = "docs/runbooks";

/// Metrics that others make: Prometheus, its client library, the kubelet.
const FOREIGN_METRICS: &[&str] = &[
    "up",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
];

/// Labels that scraping adds, and those of foreign metrics.
const FOREIGN_LABELS: &[&str] = &[
    "job",
    "namespace",
    "pod",
    "role",
    "network",
    "organization",
    "node",
    "le",
    "persistentvolumeclaim",
];

/// Names in a PromQL expression.
#[derive(Default)]
struct Names {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

#[derive(Clone, PartialEq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Words and signs; strings, numbers and ranges are left out.
fn tokens(expression: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => while rest.next().is_some_and(|c| c != '"') {},
            '[' => while rest.next().is_some_and(|c| c != ']') {},
            c if c.is_ascii_alphanumeric() || c == '_' || c == '$' => {
                let mut word = c.to_string();
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "_:".contains(*c))
                {
                    word.push(c);
                }
                if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    found.push(Token::Word(word));
                }
            }
            c if c.is_whitespace() => {}
            c => found.push(Token::Sign(c)),
        }
    }
    found
}

fn names(expression: &str) -> Names {
    const LISTS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
    const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset"];
    let mut names = Names::default();
    let tokens = tokens(expression);
    let (mut in_matchers, mut in_list) = (false, false);
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        let opens = next == Some(&Token::Sign('('));
        // `sum by (label) (…)`: the operation's name stands before its list.
        let is_operation =
            matches!(next, Some(Token::Word(word)) if ["by", "without"].contains(&word.as_str()));
        match token {
            Token::Sign('{') => in_matchers = true,
            Token::Sign('}') => in_matchers = false,
            Token::Sign(')') => in_list = false,
            Token::Sign(_) => {}
            Token::Word(word) if in_matchers || in_list => {
                names.labels.insert(word.clone());
            }
            Token::Word(word) if LISTS.contains(&word.as_str()) => in_list = opens,
            Token::Word(word) if opens || is_operation || WORDS.contains(&word.as_str()) => {}
            Token::Word(word) => {
                names.metrics.insert(word.clone());
            }
        }
    }
    names
}

#[test]
fn names_are_found_in_expressions() {
    let found =
        names(r#"sum by (a, le) (rate(x_total{b="c d", e!~"f"}[5m])) / on (g) group_right y > 3"#);
    assert_eq!(found.metrics, BTreeSet::from(["x_total".to_owned(), "y".to_owned()]));
    let labels = ["a", "b", "e", "g", "le"].map(str::to_owned);
    assert_eq!(found.labels, BTreeSet::from(labels));
}

/// Every word in quotes of the sources that make metrics: their names and labels.
fn words_of_metrics() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (_, text) in
        texts_below("node", ".rs").into_iter().chain(texts_below("operator/src", ".rs"))
    {
        if !text.contains("prometheus") && !text.contains("metrics") {
            continue;
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let quoted = text.split('"').filter(|part| !part.is_empty() && part.chars().all(is_name));
        words.extend(quoted.map(str::to_owned));
    }
    words
}

/// A histogram's series end so.
fn of_histogram(metric: &str) -> Option<&str> {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix))
}

fn check(place: &str, found: &Names, known: &BTreeSet<String>) {
    for metric in &found.metrics {
        let exists = FOREIGN_METRICS.contains(&metric.as_str())
            || known.contains(metric)
            || of_histogram(metric).is_some_and(|histogram| known.contains(histogram));
        assert!(exists, "{place}: nothing makes the metric {metric}");
    }
    for label in &found.labels {
        let exists = FOREIGN_LABELS.contains(&label.as_str()) || known.contains(label);
        assert!(exists, "{place}: no metric has the label {label}");
    }
}

fn alerts() -> Vec<Value> {
    let rules = yaml(ALERTS);
    let groups = rules["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alert_names() -> BTreeSet<String> {
    alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_use_metrics_and_labels_that_exist() {
    let known = words_of_metrics();
    for alert in alerts() {
        check(alert["alert"].as_str().unwrap(), &names(alert["expr"].as_str().unwrap()), &known);
    }
}

#[test]
fn every_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do() {
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&severity), "{name}: {severity}");
        for text in ["summary", "description"] {
            assert!(alert["annotations"][text].is_string(), "{name} has no {text}");
        }
        assert_eq!(alert["annotations"]["runbook_url"], format!("{RUNBOOKS}/{name}.md"));
    }
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let pages = files(RUNBOOKS, ".md");
    let named: BTreeSet<String> = pages
        .iter()
        .filter(|page| *page != "README.md")
        .map(|page| page.trim_end_matches(".md").to_owned())
        .collect();
    assert_eq!(named, alert_names());
    let index = text(&format!("{RUNBOOKS}/README.md"));
    for name in named {
        let page = text(&format!("{RUNBOOKS}/{name}.md"));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for heading in ["## What it means", "## What to look at", "## What to do"] {
            assert!(page.contains(heading), "{name} has no {heading:?}");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "the index has no {name}");
    }
}

#[test]
fn every_alert_is_tested() {
    let tests = text("charts/tests/alerts_test.yaml");
    for name in alert_names() {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name}");
    }
}

/// Runs where `promtool` is installed (Debian's package `prometheus`) or `PROMTOOL` names it.
#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let named = std::env::var_os("PROMTOOL");
    let program = named.clone().unwrap_or_else(|| "promtool".into());
    let run =
        |arguments: [&str; 3]| Command::new(&program).args(arguments).current_dir(root()).output();
    for arguments in
        [["check", "rules", ALERTS], ["test", "rules", "charts/tests/alerts_test.yaml"]]
    {
        match run(arguments) {
            Ok(output) => assert!(
                output.status.success(),
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) if named.is_some() => panic!("PROMTOOL cannot be run: {error}"),
            Err(_) => eprintln!("left out: there is no promtool here"),
        }
    }
}

fn panels(dashboard: &Value) -> Vec<Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row").cloned().collect()
}

#[test]
fn dashboards_use_metrics_and_labels_that_exist() {
    let known = words_of_metrics();
    for file in files(DASHBOARDS, ".json") {
        let dashboard = json(&format!("{DASHBOARDS}/{file}"));
        for panel in panels(&dashboard) {
            let place = format!("{file}: {}", panel["title"]);
            for target in panel["targets"].as_array().unwrap() {
                check(&place, &names(target["expr"].as_str().unwrap()), &known);
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] != "query" {
                continue;
            }
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (metric, label) = inner.rsplit_once(',').unwrap();
            let mut found = names(metric);
            found.labels.insert(label.trim().to_owned());
            check(&format!("{file}: {}", variable["name"]), &found, &known);
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit() {
    let mut uids = BTreeSet::new();
    for file in files(DASHBOARDS, ".json") {
        let dashboard = json(&format!("{DASHBOARDS}/{file}"));
        assert!(uids.insert(dashboard["uid"].to_string()), "{file}: the uid is another's");
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            let place = format!("{file}: {}", panel["title"]);
            assert!(ids.insert(panel["id"].to_string()), "{place}: the id is another's");
            assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{place} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
        }
    }
    assert_eq!(uids.len(), 3);
}

/// The name that Prometheus's discovery gives a pod's label.
fn discovered(label: &str) -> String {
    let name: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("__meta_kubernetes_pod_label_{name}")
}

#[test]
fn scraping_gives_the_labels_that_rules_use() {
    let monitor = text("charts/weft-operator/templates/podmonitor.yaml");
    let plain = text("charts/weft-operator/files/scrape.yaml");
    for (file, text) in [("podmonitor.yaml", &monitor), ("scrape.yaml", &plain)] {
        for label in [label::COMPONENT, label::NETWORK, label::ORGANIZATION, label::NODE] {
            assert!(text.contains(&discovered(label)), "{file} does not read {label}");
        }
        for word in [MANAGER, component::ORDERER, component::PEER, "operations"] {
            assert!(text.contains(word), "{file} does not select {word}");
        }
    }
}
