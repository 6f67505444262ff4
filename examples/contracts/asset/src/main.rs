//! The sample contract as a program. Run it as a service with `CHAINCODE_ID` and
//! `CHAINCODE_SERVER_ADDRESS`, or let it dial a peer with `CORE_CHAINCODE_ID_NAME` and
//! `CORE_PEER_ADDRESS`. `RUST_LOG` chooses what it logs; default `info`. `--version` tells the
//! version.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == "--version") {
        println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    log.with_ansi(stderr().is_terminal()).init();
    Ok(weft_contract::run(asset_contract::contract()).await?)
}
