//! `docs/node-settings.md`: every setting of an orderer and of a peer, from their types.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use weft_settings::{OrdererSettings, PeerSettings, override_names};

use super::{ReferenceError, banner, table};

const INTRODUCTION: &str = "\
# Settings of the node

`weft-node orderer --config FILE` and `weft-node peer --config FILE` read a YAML file of the
settings below. A dotted path stands for nesting: `limits.maxConnections` is

```yaml
limits:
  maxConnections: 4096
```

Unknown keys and values that cannot be used are refused at the start, all of them at once.
Relative paths are seen from the folder of the settings file. Durations are written `500ms`,
`30s`, `15m`, `1h` or `1m30s`; sizes are in bytes.

Each setting has an environment variable that overrides the file: `WEFT_`, then the path in
upper case with `_` between its words, such as `WEFT_LIMITS_MAX_CONNECTIONS`. Lists are
separated by commas. Other variables that begin with `WEFT_` are left alone; the node names them
in a warning.

In a manifest, `node.config` sets the same paths, such as `limits.maxConnections: \"64\"`.

";

/// The page on the settings.
///
/// # Errors
/// [`ReferenceError`] when a type cannot be described, or a setting has no description.
pub fn node_settings() -> Result<String, ReferenceError> {
    let mut page = banner("weft-operator docs");
    page.push_str(INTRODUCTION);
    append_settings::<OrdererSettings>(&mut page, "Orderer")?;
    append_settings::<PeerSettings>(&mut page, "Peer")?;
    page.truncate(page.trim_end().len());
    page.push('\n');
    Ok(page)
}

fn append_settings<T>(page: &mut String, title: &str) -> Result<(), ReferenceError>
where
    T: Default + Serialize + JsonSchema,
{
    let failed = |source| ReferenceError::Describe { what: title.to_owned(), source };
    let schema = serde_json::to_value(schemars::schema_for!(T)).map_err(failed)?;
    let defaults = serde_json::to_value(T::default()).map_err(failed)?;
    let walk = Walk { title, root: &schema };
    let mut rows = Vec::new();
    for (_, path) in override_names::<T>() {
        rows.push(walk.setting(&path, &defaults)?);
    }
    rows.extend(walk.lists()?);
    page.push_str(&format!("## {title}\n\n"));
    table::append(page, &["Setting", "Value", "Default", "Meaning"], &rows);
    Ok(())
}

struct Walk<'a> {
    title: &'a str,
    root: &'a Value,
}

impl Walk<'_> {
    fn setting(&self, path: &str, defaults: &Value) -> Result<Vec<String>, ReferenceError> {
        let mut schema = self.root;
        let mut default = defaults;
        for name in path.split('.') {
            schema = self.property(schema, name).ok_or_else(|| self.undescribed(path))?;
            default = default.get(name).unwrap_or(&Value::Null);
        }
        self.row(path, schema, &table::default_value(default))
    }

    /// Lists of mappings, which no variable sets.
    fn lists(&self) -> Result<Vec<Vec<String>>, ReferenceError> {
        let mut rows = Vec::new();
        let properties = self.root.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let Some(item) = schema.get("items").map(|items| self.resolve(items)) else { continue };
            let Some(fields) = item.get("properties").and_then(Value::as_object) else { continue };
            rows.push(self.row(name, schema, "")?);
            for (field, schema) in fields {
                rows.push(self.row(&format!("{name}[].{field}"), schema, "")?);
            }
        }
        Ok(rows)
    }

    fn row(
        &self,
        path: &str,
        schema: &Value,
        default: &str,
    ) -> Result<Vec<String>, ReferenceError> {
        let meaning = table::description(schema).ok_or_else(|| self.undescribed(path))?;
        Ok(vec![format!("`{path}`"), self.kind(schema), default.to_owned(), meaning])
    }

    fn kind(&self, schema: &Value) -> String {
        let schema = self.resolve(schema);
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            let names = variants.iter().filter_map(|variant| variant.get("const"));
            return names.map(table::default_value).collect::<Vec<_>>().join(", ");
        }
        if let Some([kind, _]) = schema.get("type").and_then(Value::as_array).map(Vec::as_slice) {
            // `[T, null]`: a setting that may be absent.
            return table::kind(&serde_json::json!({ "type": kind }));
        }
        if schema.get("items").is_some_and(|items| items.get("$ref").is_some()) {
            return "list of objects".to_owned();
        }
        table::kind(schema)
    }

    fn property<'b>(&'b self, schema: &'b Value, name: &str) -> Option<&'b Value> {
        self.resolve(schema).get("properties")?.get(name)
    }

    /// Follows a reference into the schema's definitions.
    fn resolve<'b>(&'b self, schema: &'b Value) -> &'b Value {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|path| path.strip_prefix("#/$defs/"));
        name.and_then(|name| self.root.get("$defs")?.get(name)).unwrap_or(schema)
    }

    fn undescribed(&self, path: &str) -> ReferenceError {
        ReferenceError::Undescribed { what: self.title.to_owned(), path: path.to_owned() }
    }
}
