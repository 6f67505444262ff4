//! A transaction at work: a contract's messages, each answered before its next. Requests for
//! state are for [`requests`]; calls of other chaincodes are made here.

mod requests;

use std::sync::Arc;

use bytes::Bytes;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::{self, ChaincodeMessage};

use self::requests::{Answer, Kept, RequestError, Requests, encoded, request};
use super::connection::{Exchange, message_of};
use super::error::ExecuteError;
use super::host::Host;
use super::runtime::{Inner, Job};
use super::state::{BlockingState, StateAccess};
use crate::blocking::blocking;

/// One call of a contract while the contract works on it.
pub(super) struct Transaction<'a> {
    inner: &'a Arc<Inner>,
    host: &'a dyn Host,
    state: &'a mut BlockingState,
    channel: &'a str,
    tx_id: &'a str,
    namespace: &'a str,
    package_id: &'a str,
    proposal: Option<&'a peer::SignedProposal>,
    init: bool,
    depth: usize,
    kept: Kept,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(
        inner: &'a Arc<Inner>,
        job: &Job<'a>,
        package_id: &'a str,
        init: bool,
        state: &'a mut BlockingState,
        host: &'a dyn Host,
    ) -> Self {
        Self {
            inner,
            host,
            state,
            channel: job.channel,
            tx_id: job.tx_id,
            namespace: job.chaincode,
            package_id,
            proposal: job.proposal,
            init,
            depth: job.depth,
            kept: Kept::default(),
        }
    }

    /// Closes what the contract has left open on the state, which its caller may go on with.
    pub(super) async fn close(self) {
        let Self { state, mut kept, .. } = self;
        state.run_mut(|state| kept.close(state)).await;
    }

    /// Sends the first message and serves the contract until its last one.
    pub(super) async fn run(
        &mut self,
        mut exchange: Exchange,
        start: ChaincodeMessage,
    ) -> Result<ChaincodeMessage, ExecuteError> {
        exchange.send(start).await?;
        loop {
            let message = exchange.receive().await?;
            let kind = message.r#type();
            if matches!(kind, Type::Completed | Type::Error) {
                return Ok(message);
            }
            let answer = self.serve(kind, message.payload).await;
            if let Some(metrics) = &self.inner.metrics {
                metrics.answered(kind, self.channel, self.package_id, answer.is_ok());
            }
            let reply = match answer {
                Ok(payload) => ChaincodeMessage { payload, ..message_of(Type::Response) },
                Err(error) => self.error_message(kind, &error),
            };
            match exchange.send(reply).await {
                Err(too_large @ ExecuteError::TooLarge { .. }) => {
                    exchange.send(self.error_message(kind, &too_large)).await?;
                }
                other => other?,
            }
        }
    }

    fn error_message(&self, kind: Type, error: &dyn std::error::Error) -> ChaincodeMessage {
        let (name, tx_id) = (kind.as_str_name(), self.tx_id);
        tracing::debug!(chaincode = self.namespace, tx_id, kind = name, %error, "refused a request");
        let text = format!("{name} failed: transaction ID: {tx_id}: {error}");
        ChaincodeMessage { payload: text.into(), ..message_of(Type::Error) }
    }

    async fn serve(&mut self, kind: Type, payload: Bytes) -> Answer {
        if kind == Type::InvokeChaincode {
            return self.invoke(request(payload)?).await;
        }
        let Self { inner, host, state, channel, namespace, init, kept, .. } = self;
        let (config, host, init) = (&inner.config, *host, *init);
        let serve = |state: &mut (dyn StateAccess + 'static)| {
            Requests { config, host, state, channel, namespace, init, kept }.serve(kind, payload)
        };
        state.run_mut(serve).await
    }

    /// Calls another chaincode (Fabric: handler.go HandleInvokeChaincode). On another channel it
    /// works on that channel's state, and what it writes there is dropped.
    async fn invoke(&mut self, spec: peer::ChaincodeSpec) -> Answer {
        let limit = self.inner.config.max_call_depth;
        if self.depth >= limit {
            return Err(RequestError::Call(ExecuteError::TooDeep { limit }));
        }
        let name = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
        let (chaincode, channel) = parse_name(&name);
        let channel = channel.unwrap_or(self.channel);
        if !self.host.is_system(chaincode) {
            self.host.check_call(channel, chaincode, self.proposal).map_err(RequestError::Host)?;
        }
        let job = Job {
            channel,
            tx_id: self.tx_id,
            chaincode,
            input: spec.input.unwrap_or_default(),
            proposal: self.proposal,
            depth: self.depth + 1,
        };
        let answer = if channel == self.channel {
            job.run(self.inner, &mut *self.state, self.host).await
        } else {
            let other = blocking(|| self.host.open_state(channel, self.tx_id)).await;
            let mut other = other.map_err(RequestError::Host)?;
            job.run(self.inner, &mut *other, self.host).await
        };
        let mut answer = answer.map_err(RequestError::Call)?;
        answer.txid = self.tx_id.to_owned();
        answer.channel_id = channel.to_owned();
        Ok(encoded(&answer))
    }
}

/// Splits `name:version/channel`, of which the last two may be missing; the version says nothing
/// (Fabric: handler.go ParseName).
fn parse_name(text: &str) -> (&str, Option<&str>) {
    let (name, channel) = match text.split_once('/') {
        Some((name, channel)) => (name, Some(channel).filter(|c| !c.is_empty())),
        None => (text, None),
    };
    (name.split_once(':').map_or(name, |(name, _)| name), channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_name(text: &str, expect: (&str, Option<&str>)) {
        assert_eq!(parse_name(text), expect);
    }

    #[test]
    fn names() {
        check_name("asset", ("asset", None));
        check_name("asset/supply", ("asset", Some("supply")));
        check_name("asset:1.0/supply", ("asset", Some("supply")));
        check_name("asset:1.0", ("asset", None));
        check_name("asset/", ("asset", None));
    }
}
