//! Label and field selectors.

use serde_json::Value;

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    namespace: String,
    labels: Vec<Requirement>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// From the parts of a request; an empty namespace is all of them.
    pub fn new(namespace: &str, labels: &str, fields: &str) -> Selector {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap();
            (name.to_owned(), value.trim_start_matches('=').to_owned())
        };
        Selector {
            namespace: namespace.to_owned(),
            labels: split(labels).iter().map(|text| requirement(text)).collect(),
            fields: split(fields).iter().map(|text| pair(text)).collect(),
        }
    }

    pub fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let label = |name: &str| metadata["labels"].get(name).and_then(Value::as_str);
        let one_of = |name: &str, values: &[String]| {
            label(name).is_some_and(|has| values.iter().any(|v| v == has))
        };
        let in_namespace =
            self.namespace.is_empty() || metadata["namespace"] == self.namespace.as_str();
        let has_labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(name, values) => one_of(name, values),
            Requirement::NotIn(name, values) => !one_of(name, values),
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Absent(name) => label(name).is_none(),
        });
        let has_fields = self.fields.iter().all(|(path, value)| {
            let found = path.split('.').fold(object, |object, field| &object[field]);
            found.as_str().unwrap_or_default() == value
        });
        in_namespace && has_labels && has_fields
    }
}

/// At commas that are not within parentheses.
fn split(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(character);
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn requirement(text: &str) -> Requirement {
    let text = text.trim();
    let list = |text: &str| -> Vec<String> {
        let inner = text.trim().trim_start_matches('(').trim_end_matches(')');
        inner.split(',').map(|one| one.trim().to_owned()).collect()
    };
    let named = |name: &str| name.trim().to_owned();
    if let Some((name, values)) = text.split_once(" notin ") {
        Requirement::NotIn(named(name), list(values))
    } else if let Some((name, values)) = text.split_once(" in ") {
        Requirement::In(named(name), list(values))
    } else if let Some((name, value)) = text.split_once("!=") {
        Requirement::NotIn(named(name), vec![named(value)])
    } else if let Some((name, value)) = text.split_once('=') {
        Requirement::In(named(name), vec![named(value.trim_start_matches('='))])
    } else if let Some(name) = text.strip_prefix('!') {
        Requirement::Absent(named(name))
    } else {
        Requirement::Exists(named(text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_kubernetes_says() {
        let object = json!({ "metadata": {
            "name": "x", "namespace": "n", "labels": { "a": "1", "b": "2" },
        } });
        let matches =
            |labels: &str, fields: &str| Selector::new("n", labels, fields).matches(&object);
        for labels in
            ["", "a=1", "a==1,b=2", "a in (0, 1),b", "a!=2", "c!=1", "!c", "a notin (2,3)"]
        {
            assert!(matches(labels, ""), "{labels}");
        }
        for labels in ["a=2", "c=1", "!a", "a in (2)", "a notin (1)", "c"] {
            assert!(!matches(labels, ""), "{labels}");
        }
        assert!(matches("", "metadata.name=x"));
        assert!(!matches("", "metadata.name=y"));
        assert!(!Selector::new("m", "", "").matches(&object));
    }
}
