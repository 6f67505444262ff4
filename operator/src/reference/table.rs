//! Markdown tables and the pieces of a JSON schema that go into them. Pure.

use serde_json::Value;

/// Appends a table; nothing when there are no rows.
pub(super) fn append(page: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    page.push_str(&line(head.iter().copied()));
    page.push_str(&line(head.iter().map(|_| "---")));
    for row in rows {
        page.push_str(&line(row.iter().map(String::as_str)));
    }
    page.push('\n');
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A schema's description in one line.
pub(super) fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A default value as it would be written in YAML, in code marks; nothing for an empty one.
pub(super) fn default_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        other => format!("`{other}`"),
    }
}

/// What a value may be: its type, the values of an enumeration, and the bounds.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<_> = values.iter().map(default_value).filter(|v| !v.is_empty()).collect();
        return values.join(", ");
    }
    let kind = match schema.get("type").and_then(Value::as_str) {
        Some("array") => {
            let items = schema.get("items").map(kind).unwrap_or_default();
            return with_bounds(&format!("list of {items}"), schema, "minItems", "maxItems", "");
        }
        Some("object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("map to {}", kind(values)),
            _ => "object".to_owned(),
        },
        Some(name) => name.to_owned(),
        None => "value".to_owned(),
    };
    let kind = with_bounds(&kind, schema, "minimum", "maximum", "");
    let kind = with_bounds(&kind, schema, "minLength", "maxLength", " characters");
    match schema.get("pattern").and_then(Value::as_str) {
        Some(pattern) => format!("{kind}, `{pattern}`"),
        None => kind,
    }
}

fn with_bounds(kind: &str, schema: &Value, least: &str, most: &str, unit: &str) -> String {
    let bound =
        |name: &str| schema.get(name).and_then(Value::as_f64).map(|value| value.to_string());
    match (bound(least), bound(most)) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}{unit}"),
        (Some(least), None) if least != "0" => format!("{kind}, at least {least}{unit}"),
        (None, Some(most)) => format!("{kind}, at most {most}{unit}"),
        _ => kind.to_owned(),
    }
}
