//! The tables of values in the charts' README pages.

use serde_json::Value;

use crate::schema::network_schema;
use crate::values::{at, fields};
use crate::{check_or_write, json, text, yaml};

const BEGIN: &str = "<!-- values: written by `make fix` -->\n";
const END: &str = "<!-- end of values -->\n";

#[test]
fn the_tables_of_values_are_as_generated() {
    for (chart, depth) in [("weft-operator", usize::MAX), ("weft-network", 1)] {
        let path = format!("charts/{chart}/README.md");
        let page = text(&path);
        let (before, rest) = page.split_once(BEGIN).expect("the table's begin is marked");
        let (_, after) = rest.split_once(END).expect("the table's end is marked");
        check_or_write(&path, &format!("{before}{BEGIN}{}{END}{after}", table(chart, depth)));
    }
}

fn table(chart: &str, depth: usize) -> String {
    // Made here as well, so that one run writes both the schema and its table.
    let schema = match chart {
        "weft-network" => network_schema(),
        _ => json(&format!("charts/{chart}/values.schema.json")),
    };
    let values = yaml(&format!("charts/{chart}/values.yaml"));
    let mut table = "| Value | Type | Default | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (path, field) in fields(&schema) {
        let is_deeper = path.matches('.').count() >= depth;
        let is_folder = field["properties"].is_object() && depth == usize::MAX;
        if path == "global" || is_deeper || is_folder {
            continue;
        }
        let default = at(&values, &path).map(|value| default_text(value, depth == usize::MAX));
        table.push_str(&format!(
            "| `{path}` | {} | {} | {} |\n",
            kind(&field),
            default.unwrap_or_default(),
            field["description"].as_str().unwrap()
        ));
    }
    table
}

fn kind(field: &Value) -> String {
    match &field["enum"] {
        Value::Array(words) => {
            let words: Vec<_> =
                words.iter().map(|one| format!("`{}`", one.as_str().unwrap())).collect();
            words.join(", ")
        }
        _ => field["type"].as_str().unwrap().to_owned(),
    }
}

/// What is empty is left out, and so are the examples of whole networks.
fn default_text(value: &Value, whole: bool) -> String {
    match value {
        Value::String(text) if text.is_empty() => String::new(),
        Value::Object(map) if map.is_empty() => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Object(_) | Value::Array(_) if !whole => "see `values.yaml`".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}
