//! gRPC without sockets: a call as HTTP/2 brings it, at a service in this process.

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tonic::Code;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use weft_rpc::listen::PeerInfo;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// What became of a call.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) code: Code,
    /// The messages before that.
    pub(crate) messages: Vec<Bytes>,
}

impl Answer {
    /// The messages, which a service of ours must have encoded well.
    pub(crate) fn decoded<M: Message + Default>(&self) -> Vec<M> {
        let decode = |bytes: &Bytes| M::decode(bytes.clone()).expect("an answer decodes");
        self.messages.iter().map(decode).collect()
    }
}

/// A message as it stands in a body.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("inputs are short"));
    frame.put_slice(message);
    frame.freeze()
}

/// Calls a method with these frames, and waits for the end of its answers.
pub(crate) async fn call<S>(
    service: S,
    path: &str,
    frames: impl Stream<Item = Bytes> + Send + 'static,
    client: Option<PeerInfo>,
) -> Answer
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    let frames = frames.map(|frame| Ok::<_, Infallible>(http_body::Frame::data(frame)));
    let mut request = http::Request::post(path);
    if let Some(extensions) = request.extensions_mut() {
        client.map(|client| extensions.insert(client));
    }
    let request = request.header("content-type", "application/grpc");
    let request = request.body(Body::new(StreamBody::new(frames))).expect("a request");
    let Ok(response) = service.oneshot(request).await;
    let (head, mut body) = response.into_parts();
    let (mut status, mut received) = (code(&head.headers), BytesMut::new());
    while let Some(frame) = body.frame().await {
        match frame.expect("the body of an answer").into_data() {
            Ok(data) => received.put(data),
            Err(frame) => status = frame.trailers_ref().and_then(code).or(status),
        }
    }
    let status = status.expect("a call ends with a status");
    Answer { code: status, messages: messages(received.freeze()) }
}

fn code(headers: &http::HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

fn messages(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while body.has_remaining() {
        assert_eq!(body.get_u8(), 0, "nobody asked for compression");
        let length = body.get_u32() as usize;
        messages.push(body.split_to(length));
    }
    messages
}
