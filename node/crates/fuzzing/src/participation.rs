//! Requests to join a channel, as the orderer's participation API gets them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use prost::Message as _;
use tower::ServiceExt;
use weft_channels::{Created, Opened, Removal, State, Stores};
use weft_ledger::kv::KvError;
use weft_msp::NodeMsp;
use weft_ops::channel_states::ChannelStates;
use weft_orderer::chain::Context;
use weft_orderer::metrics::Metrics;
use weft_orderer::participation;
use weft_orderer::registrar::Registrar;
use weft_protos::common::Block;
use weft_rpc::connect::ChannelPool;
use weft_settings::OrdererSettings;
use weft_types::{ChannelId, block};

use crate::peer::{PEER, connector, no_tls};

const BOUNDARY: &str = "weft";
/// Bytes of a body.
const MAX_BODY: usize = 64 * 1024;

/// A disk on which no ledger can be made: a join goes as far as that, and no channel is started that
/// would connect to whatever an input names.
#[derive(Default)]
struct FullDisk {
    opened: AtomicUsize,
}

impl Stores for FullDisk {
    fn open(&self, _: &ChannelId) -> Result<Opened, KvError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Err(KvError::Full { source: Arc::new(io::Error::other("full")) })
    }

    fn keep(&self, _: &Created) -> Result<(), KvError> {
        Ok(())
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        Ok(Vec::new())
    }

    fn remove(&self, _: &Removal) -> Result<(), KvError> {
        Ok(())
    }
}

struct Orderer {
    context: Arc<Context>,
    states: ChannelStates,
}

static ORDERER: LazyLock<Orderer> = LazyLock::new(|| {
    let (node, org) = (&PEER.network.orderers[0], &PEER.network.orderer_org);
    let msp = NodeMsp::new(org.msp_config(), node.identity.clone()).expect("a valid MSP");
    let registry = prometheus::Registry::new();
    let context = Context {
        settings: OrdererSettings::default(),
        identity: msp.identity().clone(),
        tls: no_tls(),
        pool: ChannelPool::new(connector(), 1),
        metrics: Metrics::register(&registry).expect("an empty registry"),
        runtime: PEER.handle.clone(),
    };
    let states = ChannelStates::register(&registry, &State::WORDS).expect("an empty registry");
    Orderer { context: Arc::new(context), states }
});

/// The first byte says whether the rest is a body, or a block for which the form is made.
pub(crate) fn participation(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let body = match first % 2 {
        0 => Bytes::copy_from_slice(rest),
        _ => form(rest),
    };
    let disk = Arc::new(FullDisk::default());
    let registrar = Registrar::new(ORDERER.context.clone(), disk.clone(), ORDERER.states.clone());
    let answered = PEER.run(post(Arc::new(registrar), body));
    let (status, text) = answered;
    assert!(text.starts_with(b"{\"error\":"), "{status}: an error says why");
    let opened = disk.opened.load(Ordering::SeqCst);
    match status {
        StatusCode::BAD_REQUEST => assert_eq!(opened, 0, "a ledger for what is refused"),
        StatusCode::INTERNAL_SERVER_ERROR => assert_eq!(opened, 1, "an error of another kind"),
        other => panic!("{other}"),
    }
    let ends_early = rest.windows(BOUNDARY.len()).any(|part| part == BOUNDARY.as_bytes());
    if first % 2 == 1 && opened == 1 && !ends_early {
        let block = Block::decode(rest).expect("it was joined with");
        block::check(&block).expect("it was joined with");
    }
}

/// A form as administrators' tools send it.
fn form(block: &[u8]) -> Bytes {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"config-block\"; \
         filename=\"config.block\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    [head.as_bytes(), block, tail.as_bytes()].concat().into()
}

async fn post(registrar: Arc<Registrar>, body: Bytes) -> (StatusCode, Bytes) {
    let router = participation::router(registrar, MAX_BODY);
    let request = http::Request::post("/participation/v1/channels")
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Full::new(body))
        .expect("a request");
    let Ok(response) = router.oneshot(request).await;
    let (head, body) = response.into_parts();
    (head.status, body.collect().await.expect("a body").to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_form_gets_as_far_as_the_disk() {
        let registrar = || {
            let disk = Arc::new(FullDisk::default());
            Arc::new(Registrar::new(ORDERER.context.clone(), disk, ORDERER.states.clone()))
        };
        let block = crate::fixture::BLOCK.encode_to_vec();
        let (status, _) = PEER.run(post(registrar(), form(&block)));
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let (status, _) = PEER.run(post(registrar(), form(b"block")));
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
