//! `connection.json`: where a contract that runs as a service listens (Fabric:
//! core/container/externalbuilder/instance.go ChaincodeServerUserData).

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Time to connect when the package names none, as Fabric.
const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Connection settings that contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// `root_cert` is missing although TLS is required.
    #[error("chaincode tls root cert not provided")]
    RootCert,
    /// `client_key` is missing although client authentication is required.
    #[error("chaincode tls key not provided")]
    ClientKey,
    /// `client_cert` is missing although client authentication is required.
    #[error("chaincode tls cert not provided")]
    ClientCert,
}

/// Where a contract listens, and how to connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `host:port`. Empty: the contract registers with the peer.
    #[serde(default)]
    pub address: String,
    /// Name expected in the server's certificate, when it is not the address's host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Time to connect, in Go's form such as `10s`, or nanoseconds; default 3 s.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_duration",
        deserialize_with = "read_duration"
    )]
    pub dial_timeout: Option<Duration>,
    /// Whether the server speaks TLS.
    #[serde(default)]
    pub tls_required: bool,
    /// Whether the server asks for a client certificate.
    #[serde(default)]
    pub client_auth_required: bool,
    /// The client's key, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_key: String,
    /// The client's certificate, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_cert: String,
    /// Certificates that the server's must be signed by, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub root_cert: String,
}

/// TLS settings to connect with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTls<'a> {
    /// Certificates that the server's must be signed by, PEM.
    pub root_cert: &'a str,
    /// The client's certificate and key, PEM.
    pub client: Option<(&'a str, &'a str)>,
}

impl Connection {
    /// A server without TLS.
    #[must_use]
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            domain: String::new(),
            dial_timeout: None,
            tls_required: false,
            client_auth_required: false,
            client_key: String::new(),
            client_cert: String::new(),
            root_cert: String::new(),
        }
    }

    /// Checks that TLS settings are complete where they are needed.
    ///
    /// # Errors
    /// Fails for the first missing one.
    pub fn validate(&self) -> Result<(), ConnectionError> {
        if !self.tls_required {
            return Ok(());
        }
        let missing = |text: &str| text.trim().is_empty();
        if self.client_auth_required && missing(&self.client_key) {
            return Err(ConnectionError::ClientKey);
        }
        if self.client_auth_required && missing(&self.client_cert) {
            return Err(ConnectionError::ClientCert);
        }
        if missing(&self.root_cert) {
            return Err(ConnectionError::RootCert);
        }
        Ok(())
    }

    /// Time to connect.
    #[must_use]
    pub fn dial_timeout(&self) -> Duration {
        self.dial_timeout.filter(|d| !d.is_zero()).unwrap_or(DEFAULT_DIAL_TIMEOUT)
    }

    /// TLS settings; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<ConnectionTls<'_>> {
        self.tls_required.then(|| ConnectionTls {
            root_cert: &self.root_cert,
            client: self
                .client_auth_required
                .then_some((self.client_cert.as_str(), self.client_key.as_str())),
        })
    }
}

#[allow(clippy::ref_option)] // The signature that serde's attribute asks for.
fn write_duration<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let millis = value.unwrap_or(DEFAULT_DIAL_TIMEOUT).as_millis();
    if millis.is_multiple_of(1000) {
        to.collect_str(&format_args!("{}s", millis / 1000))
    } else {
        to.collect_str(&format_args!("{millis}ms"))
    }
}

fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Nanos(f64),
    }
    match Option::<Written>::deserialize(from)? {
        None => Ok(None),
        Some(Written::Text(text)) if text.is_empty() => Ok(None),
        Some(Written::Text(text)) => go_duration(&text)
            .map(Some)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is not a duration such as 10s"))),
        Some(Written::Nanos(nanos)) => Duration::try_from_secs_f64(nanos / 1e9)
            .map(Some)
            .map_err(|_| de::Error::custom(format!("{nanos} is not a number of nanoseconds"))),
    }
}

/// Reads decimal numbers with units, such as `1m30.5s` (Go: `time.ParseDuration`).
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_duration(text: &str, expect: Option<Duration>) {
        assert_eq!(go_duration(text), expect, "{text:?}");
    }

    #[test]
    fn durations() {
        check_duration("10s", Some(Duration::from_secs(10)));
        check_duration("1m30.5s", Some(Duration::from_millis(90_500)));
        check_duration("250ms", Some(Duration::from_millis(250)));
        check_duration("0", Some(Duration::ZERO));
        check_duration("", None);
        check_duration("10", None);
        check_duration("s", None);
        check_duration("-1s", None);
        check_duration("10 s", None);
        check_duration("1e400h", None);
    }

    #[test]
    fn as_the_sample_packages_write_it() {
        let text = r#"{"address":"asset:9999","dial_timeout":"10s","tls_required":false}"#;
        let connection: Connection = serde_json::from_str(text).unwrap();
        assert_eq!(connection.address, "asset:9999");
        assert_eq!(connection.dial_timeout(), Duration::from_secs(10));
        assert_eq!(connection.tls(), None);
        let nanos: Connection = serde_json::from_str(r#"{"dial_timeout":1000000}"#).unwrap();
        assert_eq!(nanos.dial_timeout(), Duration::from_millis(1));
    }

    #[test]
    fn incomplete_tls() {
        let mut connection = Connection::plain("a:1");
        connection.client_auth_required = true;
        assert_eq!(connection.validate(), Ok(()));
        connection.tls_required = true;
        assert_eq!(connection.validate(), Err(ConnectionError::ClientKey));
        connection.client_key = "key".into();
        assert_eq!(connection.validate(), Err(ConnectionError::ClientCert));
        connection.client_cert = "cert".into();
        assert_eq!(connection.validate(), Err(ConnectionError::RootCert));
        connection.root_cert = "root".into();
        assert_eq!(connection.validate(), Ok(()));
        let tls = ConnectionTls { root_cert: "root", client: Some(("cert", "key")) };
        assert_eq!(connection.tls(), Some(tls));
    }
}
