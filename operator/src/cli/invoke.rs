//! `weft invoke` and `weft query`.

use std::path::Path;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use weft_client::Call;

use super::{CommandError, Output, target};

/// A call of a contract's function.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Organization to act for, by MSP id; the first one when absent.
    #[arg(long, value_name = "MSP_ID")]
    org: Option<String>,
    /// Channel; the network's first one when absent.
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// Chaincode; the channel's first one when absent.
    #[arg(long, value_name = "NAME")]
    chaincode: Option<String>,
    /// Organizations that endorse, by MSP id; worked out from the policy when absent.
    #[arg(long, value_name = "MSP_ID", value_delimiter = ',')]
    endorsers: Vec<String>,
    /// The contract's function.
    function: String,
    /// Its arguments.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

/// Submits a transaction and prints its result once it is committed.
pub(super) async fn invoke(dir: &Path, args: CallArgs, output: Output) -> Result<(), CommandError> {
    let (gateway, call) = prepare(dir, args)?;
    let submitted = gateway.submit(call).await?;
    match output {
        Output::Text => {
            eprintln!("committed {}", submitted.tx_id);
            print_result(&submitted.result);
        }
        Output::Json => {
            let id = submitted.tx_id.to_string();
            println!("{}", json!({"transactionId": id, "result": value(&submitted.result)}));
        }
    }
    Ok(())
}

/// Evaluates a function and prints its result.
pub(super) async fn query(dir: &Path, args: CallArgs, output: Output) -> Result<(), CommandError> {
    let (gateway, call) = prepare(dir, args)?;
    let result = gateway.evaluate(call).await?;
    match output {
        Output::Text => print_result(&result),
        Output::Json => println!("{}", json!({"result": value(&result)})),
    }
    Ok(())
}

fn prepare(dir: &Path, args: CallArgs) -> Result<(weft_client::Gateway, Call), CommandError> {
    let file = target::connection_file(dir)?;
    let org = target::organization(&file, args.org.as_deref())?;
    let gateway = target::gateway(&file, org, &org.peer, args.channel.as_deref())?;
    let chaincode = args.chaincode.unwrap_or_else(|| file.chaincode.clone());
    let mut call = Call::new(&chaincode, &args.function, args.args);
    call.organizations = args.endorsers;
    Ok((gateway, call))
}

fn print_result(result: &Bytes) {
    if !result.is_empty() {
        println!("{}", String::from_utf8_lossy(result));
    }
}

/// JSON stays JSON; anything else is text.
fn value(result: &Bytes) -> serde_json::Value {
    serde_json::from_slice(result)
        .unwrap_or_else(|_| String::from_utf8_lossy(result).into_owned().into())
}
