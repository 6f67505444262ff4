//! Addresses of nodes as the configuration writes them.

use std::fmt;

/// A host and a port, written `host:port`, or `[address]:port` for IPv6.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is not an address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {text:?} as host:port")]
pub struct EndpointError {
    /// The text, cut to a readable length.
    pub text: String,
}

impl Endpoint {
    /// The endpoint of `host` and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fail = || EndpointError { text: text.chars().take(256).collect() };
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(fail)?,
            None if host.contains(':') => return Err(fail()),
            None => host,
        };
        if host.is_empty()
            || host.len() > 255
            || host.contains(|c: char| c.is_whitespace() || c == '/')
        {
            return Err(fail());
        }
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(fail)?;
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn reads_and_writes() {
        for text in ["127.0.0.1:7050", "orderer0.example.com:443", "[::1]:7050"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "host",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "::1:7050",
            "[::1:7050",
            "a b:1",
            "http://a:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
