//! A connection of a client as the servers read and write it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::{Entry, PeerCertificates, PeerInfo};
use crate::budget::Holder;
use crate::shares::Share;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn certificates(&self) -> PeerCertificates {
        match self {
            Self::Plain(_) => PeerCertificates::default(),
            Self::Tls(stream) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                PeerCertificates::new(chain.to_vec())
            }
        }
    }
}

/// A connection of a client.
pub struct ServerIo {
    pub(super) stream: Stream,
    pub(super) info: PeerInfo,
    pub(super) closed: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) greeting: Option<Greeting>,
    pub(super) _entry: Entry,
    pub(super) _share: Share<Holder>,
}

/// What a client has to send before it counts as alive.
pub(super) struct Greeting {
    pub(super) limit: Pin<Box<Sleep>>,
    pub(super) missing: usize,
}

impl std::fmt::Debug for ServerIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIo").field("info", &self.info).finish()
    }
}

impl ServerIo {
    /// What is known of the client.
    pub fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// The error that ends the connection, if it has to end.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the server"));
        }
        let late = self.greeting.as_mut().is_some_and(|g| g.limit.as_mut().poll(cx).is_ready());
        late.then(|| io::Error::new(io::ErrorKind::TimedOut, "no request in time"))
    }

    fn count_greeting(&mut self, read: usize) {
        if let Some(greeting) = &mut self.greeting {
            greeting.missing = greeting.missing.saturating_sub(read);
            if greeting.missing == 0 {
                self.greeting = None;
            }
        }
    }
}

impl Connected for ServerIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.poll_ended(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.count_greeting(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
