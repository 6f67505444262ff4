//! Hashes by which a change is noticed: of settings, pod templates, names.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// SHA-256, hexadecimal.
pub fn hex(data: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in weft_crypto::sha256(data) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The first eight hexadecimal digits of the SHA-256: enough to tell a few names apart.
pub fn short(data: &[u8]) -> String {
    let mut text = hex(data);
    text.truncate(8);
    text
}

/// SHA-256 of a value as canonical JSON: keys in order, no spaces.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn canonical<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    write_canonical(&serde_json::to_value(value)?, &mut text);
    Ok(hex(text.as_bytes()))
}

/// SHA-256 of a list of texts. Each is preceded by its length, so that two lists with the same
/// letters in other places differ.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut data = Vec::new();
    for text in texts {
        data.extend((text.len() as u64).to_be_bytes());
        data.extend(text.as_bytes());
    }
    hex(&data)
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            write_list(text, '{', '}', fields, |(key, value), text| {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            });
        }
        Value::Array(items) => write_list(text, '[', ']', items, write_canonical),
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_list<T>(
    text: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    text.push(open);
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_has_ordered_keys_and_no_spaces() {
        let mut text = String::new();
        write_canonical(&json!({"b": [1, "x\n", null], "a": {"d": true, "c": {}}}), &mut text);
        assert_eq!(text, r#"{"a":{"c":{},"d":true},"b":[1,"x\n",null]}"#);
    }

    #[test]
    fn hashes_are_hexadecimal_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(b""), empty);
        assert_eq!(short(b""), "e3b0c442");
    }

    #[test]
    fn the_places_of_letters_count() {
        assert_ne!(texts(["ab", "c"]), texts(["a", "bc"]));
        assert_eq!(texts(["ab", "c"]), texts(["ab", "c"]));
    }
}
