//! What a request is about.

use std::collections::BTreeMap;

use http::Method;
use http::request::Parts;

use super::kinds::{self, Kind};
use super::objects::Refusal;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Replace,
    Merge,
    Apply,
    Delete,
}

impl Verb {
    pub fn is_write(self) -> bool {
        !matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request for objects, as the log keeps it and faults see it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which request it is, from 1.
    pub number: usize,
    /// Which write it is, from 1.
    pub write: Option<usize>,
    pub verb: Verb,
    pub kind: &'static Kind,
    pub version: String,
    /// Empty for all.
    pub namespace: String,
    /// Empty for requests about many, or whose name is in the body.
    pub name: String,
    /// Whether it is about the status.
    pub status: bool,
    pub query: BTreeMap<String, String>,
}

impl Call {
    pub fn api_version(&self) -> String {
        match self.kind.group {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = if self.status { "/status" } else { "" };
        write!(f, "{:?} {}{status} {}/{}", self.verb, self.kind.name, self.namespace, self.name)
    }
}

/// Reads a request; the numbers are filled in by whoever counts.
pub fn parse(parts: &Parts) -> Result<Call, Refusal> {
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let (group, version, rest) = match path.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(Refusal::not_found(parts.uri.path())),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, "", ""),
        [resource, name] => (*resource, *name, ""),
        [resource, name, subresource] => (*resource, *name, *subresource),
        _ => return Err(Refusal::not_found(parts.uri.path())),
    };
    let kind = kinds::by_path(group, version, resource)
        .ok_or_else(|| Refusal::not_found(parts.uri.path()))?;
    let is_served = subresource.is_empty() || (subresource == "status" && kind.status);
    if !is_served {
        return Err(Refusal::not_found(parts.uri.path()));
    }
    let query = query(parts.uri.query().unwrap_or_default());
    Ok(Call {
        number: 0,
        write: None,
        verb: verb(parts, name, &query)?,
        kind,
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        status: subresource == "status",
        query,
    })
}

fn verb(parts: &Parts, name: &str, query: &BTreeMap<String, String>) -> Result<Verb, Refusal> {
    let content = parts.headers.get(http::header::CONTENT_TYPE);
    let content = content.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    match parts.method {
        Method::GET if is_watch => Ok(Verb::Watch),
        Method::GET if name.is_empty() => Ok(Verb::List),
        Method::GET => Ok(Verb::Get),
        Method::POST if name.is_empty() => Ok(Verb::Create),
        Method::PUT => Ok(Verb::Replace),
        Method::DELETE if !name.is_empty() => Ok(Verb::Delete),
        Method::PATCH if content.starts_with("application/apply-patch") => Ok(Verb::Apply),
        Method::PATCH if content.starts_with("application/merge-patch") => Ok(Verb::Merge),
        Method::PATCH => Err(Refusal::new(415, "UnsupportedMediaType", content)),
        _ => Err(Refusal::new(405, "MethodNotAllowed", parts.method.as_str())),
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
