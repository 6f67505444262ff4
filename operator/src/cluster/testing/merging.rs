//! How patches change objects.

use serde_json::{Map, Value};

/// Names by which elements of a list are told apart, where Kubernetes' schemas say so.
const KEYS: &[&[&str]] = &[
    &["containerPort", "protocol"],
    &["port", "protocol"],
    &["name"],
    &["mountPath"],
    &["uid"],
    &["type"],
];

/// Lists whose elements have such names and are replaced as a whole nevertheless.
const ATOMIC: &[&str] =
    &["ingress", "egress", "from", "to", "items", "tolerations", "matchExpressions", "args"];

/// JSON merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object_of(target);
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Server-side apply by one manager: what it said `before` and says no longer goes, what it says
/// now is set, what others set stays.
pub fn apply(target: &mut Value, before: &Value, now: &Value) {
    apply_at("", target, before, now);
}

fn apply_at(field: &str, target: &mut Value, before: &Value, now: &Value) {
    match now {
        Value::Object(now) => apply_object(object_of(target), before, now),
        Value::Array(now) => {
            let keyed = (!ATOMIC.contains(&field)).then(|| key_of(now, target)).flatten();
            match keyed {
                Some(key) => apply_list(key, target, before, now),
                None if field == "finalizers" => union(target, before, now),
                None => *target = Value::Array(now.clone()),
            }
        }
        now => *target = now.clone(),
    }
}

fn apply_object(target: &mut Map<String, Value>, before: &Value, now: &Map<String, Value>) {
    for key in before.as_object().into_iter().flat_map(Map::keys) {
        if !now.contains_key(key) {
            target.remove(key);
        }
    }
    for (key, value) in now {
        let before = before.get(key).unwrap_or(&Value::Null);
        apply_at(key, target.entry(key.clone()).or_insert(Value::Null), before, value);
    }
}

/// The fields that name the elements of both lists, if they have such.
fn key_of(now: &[Value], target: &Value) -> Option<&'static [&'static str]> {
    let all = || now.iter().chain(target.as_array().into_iter().flatten());
    let has = |key: &&[&str]| all().all(|element| element.get(key[0]).is_some());
    all().next()?;
    KEYS.iter().copied().find(has)
}

fn apply_list(key: &[&str], target: &mut Value, before: &Value, now: &[Value]) {
    // A protocol that is not given is TCP.
    let name = |element: &Value| -> Vec<Value> {
        let default = || Value::from("TCP");
        key.iter().map(|field| element.get(field).cloned().unwrap_or_else(default)).collect()
    };
    let before: Vec<&Value> = before.as_array().into_iter().flatten().collect();
    let was = |element: &Value| before.iter().find(|one| name(one) == name(element));
    let is_now = |element: &Value| now.iter().any(|one| name(one) == name(element));
    let mut others: Vec<Value> = target.as_array().cloned().unwrap_or_default();
    others.retain(|element| is_now(element) || was(element).is_none());
    let mut list = Vec::new();
    for element in now {
        let at = others.iter().position(|one| name(one) == name(element));
        let mut merged = at.map(|at| others.remove(at)).unwrap_or(Value::Null);
        apply_at("", &mut merged, was(element).unwrap_or(&&Value::Null), element);
        list.push(merged);
    }
    list.extend(others);
    *target = Value::Array(list);
}

fn union(target: &mut Value, before: &Value, now: &[Value]) {
    let mut list: Vec<Value> = target.as_array().cloned().unwrap_or_default();
    let was = |one: &Value| before.as_array().is_some_and(|before| before.contains(one));
    list.retain(|one| now.contains(one) || !was(one));
    for one in now {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
    *target = Value::Array(list);
}

fn object_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().unwrap()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_sets_and_removes() {
        let mut target = json!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] });
        merge(&mut target, &json!({ "a": { "b": null, "d": 3 }, "l": [3] }));
        assert_eq!(target, json!({ "a": { "c": 2, "d": 3 }, "l": [3] }));
    }

    #[test]
    fn applying_takes_back_what_was_said_before_and_leaves_what_others_said() {
        let mut target = json!({ "labels": { "ours": "1", "theirs": "2", "old": "3" } });
        let before = json!({ "labels": { "ours": "1", "old": "3" } });
        apply(&mut target, &before, &json!({ "labels": { "ours": "4" } }));
        assert_eq!(target, json!({ "labels": { "ours": "4", "theirs": "2" } }));
    }

    #[test]
    fn elements_with_names_are_merged_by_name() {
        let mut target = json!({ "ports": [
            { "name": "a", "port": 1, "protocol": "TCP", "nodePort": 7 },
            { "name": "b", "port": 2, "protocol": "TCP" },
        ] });
        let before = json!({ "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }] });
        apply(&mut target, &before, &json!({ "ports": [{ "name": "c", "port": 1 }] }));
        let expected = json!({ "ports": [
            { "name": "c", "port": 1, "protocol": "TCP", "nodePort": 7 },
        ] });
        assert_eq!(target, expected);
    }
}
