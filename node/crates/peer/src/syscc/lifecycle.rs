//! `_lifecycle`: each function takes one encoded `…Args` message and answers with one encoded
//! `…Result` (Fabric: core/chaincode/lifecycle/scc.go).

use prost::Message;
use weft_protos::ext::decode;
use weft_protos::peer::Response;

use super::{SystemCall, SystemChaincodes, error, success};
use crate::blocking::Blocking;
use crate::chaincode::LedgerState;
use crate::lifecycle::{ChannelCall, FunctionError};

/// A call that was not carried out.
enum Refused {
    /// The arguments are not the message they should be.
    Arguments(String),
    /// There is no such function.
    Unknown,
    /// The function failed.
    Function(FunctionError),
}

type Answer = Result<Vec<u8>, Refused>;

impl SystemChaincodes {
    pub(super) async fn lifecycle(
        &self,
        call: &SystemCall<'_>,
        state: Option<&mut Blocking<LedgerState>>,
    ) -> Response {
        if call.args.is_empty() {
            return error("lifecycle scc must be invoked with arguments");
        }
        if call.args.len() != 2 {
            let count = call.args.len();
            return error(format!(
                "lifecycle scc operations require exactly two arguments but received {count}"
            ));
        }
        if let Err(message) = check_capability(call) {
            return error(message);
        }
        if let Err(denied) = self.check(call, call.channel) {
            return error(format!(
                "Failed to authorize invocation due to failed ACL check: {denied}"
            ));
        }
        let function = call.function();
        let answer = match self.peer_function(call, &function).await {
            Err(Refused::Unknown) => self.channel_function(call, &function, state).await,
            answer => answer,
        };
        respond(&function, answer)
    }

    async fn peer_function(&self, call: &SystemCall<'_>, function: &str) -> Answer {
        let installed = &self.installed;
        match function {
            "InstallChaincode" => encode(installed.install(args(call)?).await),
            "QueryInstalledChaincode" => encode(installed.query(args(call)?).await),
            "QueryInstalledChaincodes" => Ok(installed.query_all().await.encode_to_vec()),
            "GetInstalledChaincodePackage" => encode(installed.package(args(call)?).await),
            _ => Err(Refused::Unknown),
        }
    }

    async fn channel_function(
        &self,
        call: &SystemCall<'_>,
        function: &str,
        state: Option<&mut Blocking<LedgerState>>,
    ) -> Answer {
        let (Some(bundle), Some(state)) = (call.channel, state) else {
            return Err(Refused::Arguments("no channel is named".to_owned()));
        };
        let sources = self.installed.sources();
        state
            .run_mut(|state| {
                let on = ChannelCall { bundle, sources, simulator: state.simulator() };
                on_channel(on, call, function)
            })
            .await
    }
}

fn on_channel(mut on: ChannelCall<'_>, call: &SystemCall<'_>, function: &str) -> Answer {
    match function {
        "ApproveChaincodeDefinitionForMyOrg" => encode(on.approve(args(call)?)),
        "QueryApprovedChaincodeDefinition" => encode(on.query_approved(args(call)?)),
        "QueryApprovedChaincodeDefinitions" => encode(on.query_approved_all()),
        "CheckCommitReadiness" => encode(on.readiness(args(call)?)),
        "CommitChaincodeDefinition" => encode(on.commit(args(call)?)),
        "QueryChaincodeDefinition" => encode(on.query(args(call)?)),
        "QueryChaincodeDefinitions" => encode(on.query_all()),
        _ => Err(Refused::Unknown),
    }
}

/// Channels of old networks have definitions of another kind.
fn check_capability(call: &SystemCall<'_>) -> Result<(), String> {
    let Some(bundle) = call.channel else { return Ok(()) };
    let channel = bundle.channel_id();
    let application = bundle
        .application()
        .ok_or_else(|| format!("could not get application config for channel '{channel}'"))?;
    if application.capabilities.lifecycle_v2() {
        return Ok(());
    }
    Err(format!(
        "cannot use new lifecycle for channel '{channel}' as it does not have the required capabilities enabled"
    ))
}

fn args<M: Message + Default>(call: &SystemCall<'_>) -> Result<M, Refused> {
    let bytes = call.args.get(1).cloned().unwrap_or_default();
    decode("arguments", bytes).map_err(|e| Refused::Arguments(e.source.to_string()))
}

fn encode<M: Message>(result: Result<M, FunctionError>) -> Answer {
    result.map(|result| result.encode_to_vec()).map_err(Refused::Function)
}

fn respond(function: &str, answer: Answer) -> Response {
    let reason = match answer {
        Ok(payload) => return success(payload),
        Err(Refused::Function(e)) if e.is_not_found() => {
            return Response { status: 404, message: e.to_string(), ..Response::default() };
        }
        Err(Refused::Function(e)) => e.to_string(),
        Err(Refused::Arguments(e)) => format!("could not decode arguments: {e}"),
        Err(Refused::Unknown) => format!("function '{function}' does not exist"),
    };
    error(format!("failed to invoke backing implementation of '{function}': {reason}"))
}
