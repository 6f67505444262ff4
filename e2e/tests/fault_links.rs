//! Links between orderers that carry bytes in one direction only, or slowly and with losses. Commits
//! go on meanwhile, and nothing is lost when the links heal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use support::Random;
use support::faults::{ORDERERS, SOME, check, leader, loaded};
use support::links::Links;
use tokio::time::sleep;
use weft_e2e::proxy::Flow;

#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_when_a_leader_only_sends_or_only_receives() {
    let links = Links::start().await;
    let load = loaded(&links.network).await;
    for (sends, receives) in [(Flow::Drop, Flow::Pass), (Flow::Pass, Flow::Drop)] {
        links.set(leader(&links.network).await, sends, receives);
        load.progress(SOME).await.unwrap();
        links.heal();
        load.progress(SOME).await.unwrap();
    }
    let keys = load.finish().await.unwrap();
    check(&links.network, &keys).await;
}

/// Every tenth of a second each orderer's links are made anew: a delay of 25 to 125 ms, or nothing
/// passes.
#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_over_links_that_are_slow_and_lose_half() {
    let links = Links::start().await;
    let load = loaded(&links.network).await;
    let mut random = Random::seeded();
    let shake = async {
        loop {
            for name in ORDERERS {
                let flow = match random.below(2) {
                    0 => Flow::Drop,
                    _ => Flow::Delay(Duration::from_millis(25 + random.number() % 101)),
                };
                links.set(name, flow, flow);
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        progress = load.progress(SOME) => progress.unwrap(),
        () = shake => {}
    }
    links.heal();
    load.progress(SOME).await.unwrap();
    let keys = load.finish().await.unwrap();
    check(&links.network, &keys).await;
}
