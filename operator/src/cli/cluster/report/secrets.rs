//! What a report tells of Secrets: nothing that is secret. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::Serialize;
use weft_crypto::Certificate;

use crate::api::Organization;
use crate::cluster::names::{MANAGER, label};

/// A Secret without its contents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    name: String,
    r#type: Option<String>,
    labels: BTreeMap<String, String>,
    /// Size of each key's value in bytes.
    keys: BTreeMap<String, usize>,
    certificates: Vec<CertificateSummary>,
}

/// A certificate of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateSummary {
    key: String,
    subject: String,
    not_before: String,
    not_after: String,
}

/// The Secrets that the operator made, and those that organizations name as their CAs.
pub(super) fn summaries(secrets: &[Secret], organizations: &[Organization]) -> Vec<Summary> {
    let named = |secret: &Secret| {
        organizations.iter().any(|organization| {
            let ca = &organization.spec.ca;
            let refs = [&ca.identity_secret_ref, &ca.tls_secret_ref];
            refs.into_iter().flatten().any(|reference| reference.name == secret.name_any())
        })
    };
    let ours = |secret: &Secret| {
        secret.labels().get(label::MANAGED_BY).is_some_and(|manager| manager == MANAGER)
    };
    secrets.iter().filter(|secret| ours(secret) || named(secret)).map(summary).collect()
}

fn summary(secret: &Secret) -> Summary {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    Summary {
        name: secret.name_any(),
        r#type: secret.type_.clone(),
        labels: secret.labels().clone(),
        keys: data.iter().map(|(key, value)| (key.clone(), value.0.len())).collect(),
        certificates: data.iter().flat_map(|(key, value)| certificates(key, &value.0)).collect(),
    }
}

fn certificates(key: &str, value: &[u8]) -> Vec<CertificateSummary> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let found = Certificate::all_from_pem(text).unwrap_or_default();
    let summary = |certificate: &Certificate| CertificateSummary {
        key: key.to_owned(),
        subject: certificate.subject_text().to_owned(),
        not_before: certificate.not_before().to_string(),
        not_after: certificate.not_after().to_string(),
    };
    found.iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;

    use super::super::super::objects::tests::objects;
    use super::*;
    use crate::api::SecretRef;

    fn secret(name: &str, ours: bool) -> Secret {
        let label = (label::MANAGED_BY.to_owned(), MANAGER.to_owned());
        let data = [("password".to_owned(), ByteString(b"hunter2".to_vec()))];
        Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: ours.then(|| [label].into()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".into()),
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    #[test]
    fn only_names_and_sizes_are_told_and_only_of_ours() {
        let mut organizations = objects().organizations;
        organizations[0].spec.ca.tls_secret_ref = Some(SecretRef { name: "own-ca".into() });
        let secrets = [secret("a", true), secret("other", false), secret("own-ca", false)];
        let found = summaries(&secrets, &organizations);
        let names: Vec<&str> = found.iter().map(|summary| summary.name.as_str()).collect();
        assert_eq!(names, ["a", "own-ca"]);
        assert_eq!(found[0].keys["password"], 7);
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }
}
