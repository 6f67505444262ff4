//! Keeps keys and passwords out of what leaves a cluster. Pure.
//!
//! Nothing that is collected is meant to hold any; this is the net below that. It takes out
//! private keys wherever they stand in a text (PEM, also with escaped line ends, cut short, or
//! in base64; DER in base64), and, in objects, values whose names say that they are secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weft_crypto::PrivateKey;

/// What stands where something was taken out.
pub(super) const REDACTED: &str = "[REDACTED]";

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// The shortest run of base64 that is looked into: a P-256 key takes more in every form.
const SHORTEST: usize = 40;

/// The text without private keys.
pub(super) fn text(text: &str) -> String {
    encoded(&pem(text))
}

/// Takes out each PEM block whose label ends with `PRIVATE KEY`; without an end, all that
/// follows.
fn pem(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(start);
        kept.push_str(before);
        if !is_private(block) {
            kept.push_str(BEGIN);
            rest = &block[BEGIN.len()..];
            continue;
        }
        kept.push_str(REDACTED);
        rest = after_block(block);
    }
    kept.push_str(rest);
    kept
}

fn is_private(block: &str) -> bool {
    let label = &block[BEGIN.len()..];
    // A label that is cut short may be that of a key.
    let end = label.find(DASHES).unwrap_or(label.len());
    label[..end].contains("PRIVATE KEY") || (end == label.len() && label.contains("PRIV"))
}

fn after_block(block: &str) -> &str {
    let Some(end) = block.find(END) else { return "" };
    let label = &block[end + END.len()..];
    label.find(DASHES).map_or("", |dashes| &label[dashes + DASHES.len()..])
}

/// Takes out runs of base64 that are a key, or a text with one.
fn encoded(text: &str) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_base64) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_base64(c)).unwrap_or(from.len());
        let (run, after) = from.split_at(end);
        kept.push_str(before);
        kept.push_str(if run.len() >= SHORTEST && is_key(run) { REDACTED } else { run });
        rest = after;
    }
    kept.push_str(rest);
    kept
}

fn is_key(run: &str) -> bool {
    // A run cut short still shows how it begins: whole groups of four characters are decoded.
    let whole = &run[..run.len() - run.len() % 4];
    let Ok(bytes) =
        STANDARD.decode(whole).or_else(|_| STANDARD.decode(whole.trim_end_matches('=')))
    else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes);
    text.contains("PRIVATE KEY") || PrivateKey::from_der(&bytes).is_ok()
}

/// The object without what is secret, or is of no use to a reader: bookkeeping of fields,
/// the manifest that was last applied, values of variables with telling names.
pub(super) fn object(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    fields(value);
}

fn fields(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(fields),
        Value::Object(map) => {
            variable(map);
            for (name, field) in map.iter_mut() {
                if field.is_string() && is_telling(name) {
                    *field = REDACTED.into();
                } else {
                    fields(field);
                }
            }
        }
        Value::String(string) => *string = text(string),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An environment variable is a pair of `name` and `value`.
fn variable(map: &mut serde_json::Map<String, Value>) {
    let telling = map.get("name").and_then(Value::as_str).is_some_and(is_telling);
    if telling && let Some(value) = map.get_mut("value") {
        *value = REDACTED.into();
    }
}

/// Whether what has this name is likely secret. References such as `secretName` are not.
fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = [
        "password",
        "passwd",
        "token",
        "credential",
        "private_key",
        "privatekey",
        "api_key",
        "apikey",
    ];
    let is_reference =
        name.starts_with("automount") || name.ends_with("name") || name.ends_with("path");
    !is_reference
        && (words.iter().any(|word| name.contains(word))
            || name == "secret"
            || name.ends_with("_secret")
            || name.ends_with("_pw"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> String {
        PrivateKey::generate().unwrap().to_pkcs8_pem().unwrap().to_string()
    }

    /// Nothing of the key's body is left.
    fn check(given: &str, secret: &str, expected: &str) {
        let found = text(given);
        assert_eq!(found, expected);
        for line in secret.lines().filter(|line| !line.starts_with('-')) {
            assert!(!found.contains(line));
        }
    }

    #[test]
    fn a_key_is_taken_out_wherever_it_stands() {
        let key = key();
        check(&format!("a\n{key}b\n"), &key, "a\n[REDACTED]\nb\n");
        let escaped = key.replace('\n', "\\n");
        check(&format!("{{\"key\":\"{escaped}\"}}"), &key, "{\"key\":\"[REDACTED]\\n\"}");
        let indented = key.replace('\n', "\n    ");
        check(&format!("key: |\n    {indented}x"), &key, "key: |\n    [REDACTED]\n    x");
        let cut = &key[..100];
        check(&format!("log {cut}"), cut, "log [REDACTED]");
        check("log -----BEGIN PRIVAT", "", "log [REDACTED]");
        check(&format!("{key}{key}"), &key, "[REDACTED]\n[REDACTED]\n");
        let old = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
        check(&old, &old, "[REDACTED]\n");
    }

    #[test]
    fn an_encoded_key_is_taken_out() {
        let key = key();
        let pem = STANDARD.encode(&key);
        check(&format!("tls.key: {pem}\n"), &pem, "tls.key: [REDACTED]\n");
        let cut = &pem[..101];
        check(&format!("tls.key: {cut}"), cut, "tls.key: [REDACTED]");
        let der =
            STANDARD.encode(PrivateKey::generate().unwrap().to_pkcs8_der().unwrap().as_slice());
        check(&format!("<{der}>"), &der, "<[REDACTED]>");
    }

    #[test]
    fn what_is_public_stays() {
        let certificate =
            "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n-----END CERTIFICATE-----\n";
        let hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let both = format!("{certificate}{hash} grüße -----BEGIN PUBLIC KEY-----");
        assert_eq!(text(&both), both);
    }

    #[test]
    fn a_key_after_a_certificate_is_taken_out_and_the_certificate_stays() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let key = key();
        check(
            &format!("{certificate}{key}{certificate}"),
            &key,
            &format!("{certificate}[REDACTED]\n{certificate}"),
        );
    }

    #[test]
    fn objects_lose_secret_variables_and_bookkeeping() {
        let key = key();
        let mut object_ = json!({
            "metadata": {
                "name": "a",
                "managedFields": [{"manager": "b"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": key, "c": "d"},
            },
            "spec": {
                "env": [
                    {"name": "DB_PASSWORD", "value": "hunter2"},
                    {"name": "LOG", "value": "info"},
                    {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "e"}}},
                ],
                "automountServiceAccountToken": false,
                "volumes": [{"secret": {"secretName": "org1-peer-0-identity"}}],
                "token": "f",
                "text": key,
            },
        });
        object(&mut object_);
        let expected = json!({
            "metadata": {"name": "a", "annotations": {"c": "d"}},
            "spec": {
                "env": [
                    {"name": "DB_PASSWORD", "value": REDACTED},
                    {"name": "LOG", "value": "info"},
                    {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "e"}}},
                ],
                "automountServiceAccountToken": false,
                "volumes": [{"secret": {"secretName": "org1-peer-0-identity"}}],
                "token": REDACTED,
                "text": "[REDACTED]\n",
            },
        });
        assert_eq!(object_, expected);
    }
}
