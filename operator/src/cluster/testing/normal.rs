//! Objects without what differs from run to run: versions, times, hashes and key material.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ApiServer;

/// All objects but Events, by kind and name.
pub fn objects(server: &ApiServer) -> BTreeMap<String, Value> {
    let all = server.objects().into_iter().filter(|((kind, _, _), _)| *kind != "Event");
    all.map(|((kind, _, name), mut object)| {
        normalise(&mut object);
        (format!("{kind}/{name}"), object)
    })
    .collect()
}

fn normalise(object: &mut Value) {
    let is_secret = object["kind"] == "Secret";
    let fields = object.as_object_mut().unwrap();
    for field in ["data", "binaryData"] {
        let values = fields.get_mut(field).and_then(Value::as_object_mut);
        for (_, value) in values.into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            if is_secret || field == "binaryData" || text.starts_with("-----BEGIN") {
                *value = "<bytes>".into();
            }
        }
    }
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(field);
    }
    let owners = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten() {
        owner.as_object_mut().unwrap().remove("uid");
    }
    texts(object);
}

fn texts(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(texts),
        Value::Array(items) => items.iter_mut().for_each(texts),
        Value::String(text) => *text = plain(text),
        _ => {}
    }
}

/// A text without times, hashes and addresses.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, word) = special(rest).unwrap_or((first.len_utf8(), ""));
        out.push_str(if word.is_empty() { &rest[..length] } else { word });
        rest = &rest[length..];
    }
    out
}

fn special(text: &str) -> Option<(usize, &'static str)> {
    let run = |accepts: fn(char) -> bool| text.find(|c| !accepts(c)).unwrap_or(text.len());
    let hex = run(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if hex >= 64 {
        return Some((hex, "<hash>"));
    }
    let time = run(|c| c.is_ascii_digit() || "-:.TZ".contains(c));
    if time >= 20 && text[..time].contains('T') && text[..time].contains('Z') {
        let end = text.find('Z')? + 1;
        return Some((end, "<time>"));
    }
    let address = run(|c| c.is_ascii_digit() || c == '.');
    (text.starts_with("127.77.")).then_some((address, "<address>"))
}

#[test]
fn only_what_differs_from_run_to_run_is_left_out() {
    let hash = "0123456789abcdef".repeat(4);
    let text = format!("ends 2027-11-21T12:00:00Z, is {hash} at 127.77.0.12:7050 of 4 dead");
    assert_eq!(plain(&text), "ends <time>, is <hash> at <address>:7050 of 4 dead");
}
