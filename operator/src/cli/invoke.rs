//! `weft invoke` and `weft query`.

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use weft_client::Call;

use super::cluster::patiently;
use super::target::{Reached, Target, Wanted};
use super::{CommandError, Output, put};

mod transient;

use transient::Transient;

/// A call of a contract's function.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Organization to act for, by MSP id (in a cluster by name as well). When absent, the first
    /// one; in a cluster, the only member of the channel.
    #[arg(long, value_name = "MSP_ID")]
    org: Option<String>,
    /// The organization's user to act as. When absent, the first that is not the administrator,
    /// or else the administrator.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Channel. When absent, the network's first one; in a cluster, the namespace's only one.
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// Chaincode. When absent, the channel's first one; in a cluster, its only one.
    #[arg(long, value_name = "NAME")]
    chaincode: Option<String>,
    /// Organizations that endorse, by MSP id; worked out from the policy when absent. With transient
    /// data or private data: those that may see it.
    #[arg(long, value_name = "MSP_ID", value_delimiter = ',')]
    endorsers: Vec<String>,
    /// Data for the contract alone, which does not become part of the transaction: a value, or with
    /// KEY=@FILE the bytes of a file, which no list of processes shows. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    transient: Vec<Transient>,
    /// The contract's function.
    function: String,
    /// Its arguments.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

/// Submits a transaction and prints its result once it is committed.
pub(super) async fn invoke(
    target: &Target,
    args: CallArgs,
    output: Output,
) -> Result<(), CommandError> {
    let (reached, call) = prepare(target, args).await?;
    let submitting = reached.gateway();
    let submitted = patiently("waiting for the commit", submitting.submit(call))
        .await
        .map_err(|error| reached.explain(error))?;
    let id = submitted.tx_id.to_string();
    let answer = json!({"transactionId": id, "result": value(&submitted.result)});
    match output {
        Output::Text => {
            eprintln!("committed {id}");
            print_result(&submitted.result)?;
        }
        Output::Json => put(&format!("{answer}\n"))?,
        Output::Yaml => put(&serde_yaml::to_string(&answer)?)?,
    }
    Ok(())
}

/// Evaluates a function and prints its result.
pub(super) async fn query(
    target: &Target,
    args: CallArgs,
    output: Output,
) -> Result<(), CommandError> {
    let (reached, call) = prepare(target, args).await?;
    let asking = reached.gateway();
    let result = patiently("waiting for the answer", asking.evaluate(call))
        .await
        .map_err(|error| reached.explain(error))?;
    let answer = json!({"result": value(&result)});
    match output {
        Output::Text => print_result(&result)?,
        Output::Json => put(&format!("{answer}\n"))?,
        Output::Yaml => put(&serde_yaml::to_string(&answer)?)?,
    }
    Ok(())
}

async fn prepare(target: &Target, args: CallArgs) -> Result<(Reached, Call), CommandError> {
    let transient = transient::read(args.transient)?;
    let wanted = Wanted {
        org: args.org,
        user: args.user,
        as_admin: false,
        channel: args.channel,
        chaincode: args.chaincode,
        needs_chaincode: true,
        any_member: false,
    };
    let reached = target.reach(&wanted).await?;
    let mut call = Call::new(&reached.chaincode, &args.function, args.args);
    call.organizations = args.endorsers;
    call.transient = transient;
    Ok((reached, call))
}

fn print_result(result: &Bytes) -> Result<(), CommandError> {
    if result.is_empty() {
        return Ok(());
    }
    put(&format!("{}\n", String::from_utf8_lossy(result)))
}

/// JSON stays JSON; anything else is text.
fn value(result: &Bytes) -> serde_json::Value {
    serde_json::from_slice(result)
        .unwrap_or_else(|_| String::from_utf8_lossy(result).into_owned().into())
}
