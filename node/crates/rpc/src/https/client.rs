//! A small HTTP client for the participation and operations APIs: one connection a request,
//! limits on time and size, nothing followed or retried.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::connect::{ConnectError, ConnectOptions, Connector, Endpoint, EndpointTls};
use crate::tls::{Alpn, ReloadingTls};

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not `http://host:port/…` or `https://host:port/…`.
    #[error("failed to parse the URL {url:?}")]
    Url {
        /// The URL given.
        url: String,
    },
    /// No connection could be made.
    #[error("failed to reach {url}: {source}")]
    Connect {
        /// The URL given.
        url: String,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// The request could not be made from the parts given.
    #[error("failed to make a request for {url}: {source}")]
    Request {
        /// The URL given.
        url: String,
        /// The HTTP library's error.
        #[source]
        source: http::Error,
    },
    /// The connection broke or the answer is not HTTP.
    #[error("failed to exchange HTTP with {url}: {source}")]
    Http {
        /// The URL given.
        url: String,
        /// The HTTP library's error.
        #[source]
        source: hyper::Error,
    },
    /// The response's body broke off or is larger than the limit.
    #[error("failed to read the response of {url}: {source}")]
    Body {
        /// The URL given.
        url: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No complete response came in time.
    #[error("failed to get a response of {url} in {} ms", limit.as_millis())]
    Timeout {
        /// The URL given.
        url: String,
        /// The limit.
        limit: Duration,
    },
}

impl ClientError {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.is_transient(),
            Self::Http { .. } | Self::Body { .. } | Self::Timeout { .. } => true,
            Self::Url { .. } | Self::Request { .. } => false,
        }
    }
}

/// Limits of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Time for a connection and its TLS handshake.
    pub dial_timeout: Duration,
    /// Time for the whole request, connecting included.
    pub timeout: Duration,
    /// Largest response body, bytes.
    pub max_response_bytes: usize,
}

impl Default for ClientOptions {
    /// 5 s to connect, 30 s in all, 16 MiB.
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            max_response_bytes: 16 * 1024 * 1024,
        }
    }
}

/// A part of a multipart form (RFC 7578).
#[derive(Debug, Clone)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// Name of the file.
    pub file_name: String,
    /// Its content.
    pub content: Bytes,
}

/// What a server answered, whatever its status.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The parser's.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// An HTTP client. It shows `tls`'s certificate and trusts its server roots.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    options: ClientOptions,
    server_name: Option<String>,
}

impl Client {
    /// A client with this TLS material.
    pub fn new(tls: ReloadingTls, options: ClientOptions) -> Self {
        let connect = ConnectOptions {
            dial_timeout: options.dial_timeout,
            keepalive_interval: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
        };
        Self { connector: Connector::new(tls, connect), options, server_name: None }
    }

    /// Expects this name in servers' certificates instead of the URL's host.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// GET.
    ///
    /// # Errors
    /// [`ClientError`] when there is no response; a status of failure is a response.
    pub async fn get(&self, url: &str) -> Result<Response, ClientError> {
        self.send(Method::GET, url, None).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// [`ClientError`] when there is no response; a status of failure is a response.
    pub async fn delete(&self, url: &str) -> Result<Response, ClientError> {
        self.send(Method::DELETE, url, None).await
    }

    /// PUT with a JSON body.
    ///
    /// # Errors
    /// [`ClientError`] when there is no response; a status of failure is a response.
    pub async fn put_json(
        &self,
        url: &str,
        body: &serde_json::Value,
    ) -> Result<Response, ClientError> {
        let body = Bytes::from(body.to_string());
        self.send(Method::PUT, url, Some(("application/json".to_owned(), body))).await
    }

    /// POST of a multipart form.
    ///
    /// # Errors
    /// [`ClientError`] when there is no response; a status of failure is a response.
    pub async fn post_multipart(&self, url: &str, parts: &[Part]) -> Result<Response, ClientError> {
        let (content_type, body) = multipart(parts);
        self.send(Method::POST, url, Some((content_type, body))).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(String, Bytes)>,
    ) -> Result<Response, ClientError> {
        let limit = self.options.timeout;
        tokio::time::timeout(limit, self.exchange(method, url, body))
            .await
            .map_err(|_| ClientError::Timeout { url: url.to_owned(), limit })?
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<(String, Bytes)>,
    ) -> Result<Response, ClientError> {
        let here = || url.to_owned();
        let (endpoint, host, target) = self.locate(url)?;
        let connected = |source| ClientError::Connect { url: here(), source };
        let dialer = self.connector.dialer(&endpoint, Alpn::Http1).map_err(connected)?;
        let io = dialer.dial().await.map_err(connected)?;
        let broken = |source| ClientError::Http { url: here(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        let mut request = Request::builder().method(method).uri(target).header(HOST, host);
        let content = body.map(|(content_type, content)| {
            request = std::mem::take(&mut request).header(CONTENT_TYPE, content_type);
            content
        });
        let request = request
            .body(Full::new(content.unwrap_or_default()))
            .map_err(|source| ClientError::Request { url: here(), source })?;
        // Dropped with the request, so that a timeout closes the connection.
        let _driver = Driver(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.options.max_response_bytes);
        let body =
            body.collect().await.map_err(|source| ClientError::Body { url: here(), source })?;
        Ok(Response { status, body: body.to_bytes() })
    }

    /// Where to connect, the `Host` header and the request's target.
    fn locate(&self, url: &str) -> Result<(Endpoint, String, Uri), ClientError> {
        let malformed = || ClientError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(malformed()),
        };
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'));
        let authority = authority.ok_or_else(malformed)?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = format!("{}:{port}", authority.host());
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = target.parse().map_err(|_| malformed())?;
        let tls = secure.then(|| EndpointTls {
            server_name: self.server_name.clone(),
            ..EndpointTls::default()
        });
        Ok((Endpoint { address, tls }, authority.as_str().to_owned(), target))
    }
}

struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The content type and body of a form. The boundary is the hash of the contents, so none of
/// them can hold it.
fn multipart(parts: &[Part]) -> (String, Bytes) {
    let hashes: Vec<_> = parts.iter().map(|part| crate::tls::sha256(&part.content)).collect();
    let boundary = crate::tls::sha256(hashes.as_flattened());
    let boundary: String = boundary.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
    let mut body = Vec::new();
    for part in parts {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            quoted(&part.name),
            quoted(&part.file_name),
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body.into())
}

/// A name inside quotation marks, as browsers write it (RFC 7578, 4.2).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
