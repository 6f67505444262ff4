#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

//! Every state with every event, a row each.

use std::time::Duration;

use weft_channels::{
    Aftermath, Backoff, Channels, Created, Cure, JoinRefused, LeaveRefused, Left, Retry, Run, State,
};
use weft_types::ChannelId;

fn id() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn empty() -> Channels {
    Channels::new(Backoff::default())
}

fn full(channels: &mut Channels, run: &Run, now: u64, left: Left) -> Aftermath {
    channels.failed(run, at(now), left, "full".to_owned(), Cure::Retry)
}

/// A channel in this state, and its run.
fn in_state(word: &str) -> (Channels, Run) {
    let mut channels = empty();
    let run = channels.join(&id()).unwrap();
    let run = match word {
        "joining" => run,
        "running" => {
            assert!(channels.opened(&run, at(0)));
            run
        }
        "failed" | "opening" => {
            full(&mut channels, &run, 0, Left::Ledger);
            if word == "opening" { channels.due(at(1)).remove(0) } else { run }
        }
        "leaving" => {
            assert!(channels.opened(&run, at(0)));
            channels.leave(&id()).unwrap().0
        }
        other => panic!("{other}"),
    };
    (channels, run)
}

fn shown(channels: &Channels) -> String {
    match channels.get("supply") {
        None => "none".to_owned(),
        Some(State::Failed(failure)) => match failure.retry {
            Retry::At(at) => format!("failed, again at {}", at.as_secs()),
            Retry::Now => "failed, opening".to_owned(),
            Retry::Never => "failed for good".to_owned(),
        },
        Some(state) => state.word().to_owned(),
    }
}

#[track_caller]
fn check(before: &str, event: &str, answer: &str, after: &str) {
    let (mut channels, run) = in_state(before);
    let told = match event {
        "join" => {
            channels.join(&id()).map_or_else(|refused| format!("{refused:?}"), |_| "run".into())
        }
        "found" => format!("{}", channels.found(&id()).is_some()),
        "opened" => channels.opened(&run, at(2)).to_string(),
        "leave" => channels
            .leave(&id())
            .map_or_else(|refused| format!("{refused:?}"), |_| "removal".into()),
        "left" => {
            channels.left(&run);
            String::new()
        }
        "not left" => {
            channels.not_left(&run, "busy".to_owned());
            String::new()
        }
        failure => {
            let left = match failure {
                "fails with what it created" => Left::Created(Created::new(id())),
                "fails with nothing" => Left::Nothing,
                _ => Left::Ledger,
            };
            let cure = if failure == "is damaged" { Cure::Repair } else { Cure::Retry };
            match channels.failed(&run, at(2), left, "x".to_owned(), cure) {
                Aftermath::Listed(_) => "listed".to_owned(),
                Aftermath::Discard(removal) => format!("discard {}", removal.channel()),
                Aftermath::Forgotten => "forgotten".to_owned(),
                Aftermath::Stale => "stale".to_owned(),
            }
        }
    };
    assert_eq!((told.as_str(), shown(&channels).as_str()), (answer, after), "{before}, {event}");
}

#[test]
fn each_state_takes_each_event() {
    check("joining", "join", "Exists", "joining");
    check("joining", "found", "false", "joining");
    check("joining", "opened", "true", "running");
    check("joining", "leave", "Busy", "joining");
    check("joining", "fails with what it created", "discard supply", "leaving");
    check("joining", "fails with nothing", "forgotten", "none");
    check("joining", "fails with a ledger", "listed", "failed, again at 3");
    check("joining", "is damaged", "listed", "failed for good");

    check("running", "join", "Exists", "running");
    check("running", "opened", "false", "running");
    check("running", "leave", "removal", "leaving");
    check("running", "fails with what it created", "listed", "failed, again at 3");
    check("running", "fails with nothing", "listed", "failed, again at 3");
    check("running", "is damaged", "listed", "failed for good");

    check("failed", "join", "Exists", "failed, again at 1");
    check("failed", "found", "false", "failed, again at 1");
    check("failed", "opened", "false", "failed, again at 1");
    check("failed", "leave", "removal", "leaving");
    check("failed", "fails with what it created", "stale", "failed, again at 1");

    check("opening", "join", "Exists", "failed, opening");
    check("opening", "opened", "true", "running");
    check("opening", "leave", "Busy", "failed, opening");
    check("opening", "fails with what it created", "listed", "failed, again at 4");
    check("opening", "fails with nothing", "listed", "failed, again at 4");
    check("opening", "is damaged", "listed", "failed for good");

    check("leaving", "join", "Exists", "leaving");
    check("leaving", "opened", "false", "leaving");
    check("leaving", "leave", "Busy", "leaving");
    check("leaving", "fails with a ledger", "stale", "leaving");
    check("leaving", "left", "", "none");
    check("leaving", "not left", "", "failed for good");
    check("running", "left", "", "running");
}

#[test]
fn retries_come_later_and_later_until_the_channel_was_steady() {
    let (mut channels, mut run) = in_state("failed");
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..8 {
        let next = channels.wakeup().unwrap().as_secs();
        assert_eq!(channels.due(at(next - 1)), []);
        waits.push(next - now);
        now = next;
        run = channels.due(at(now)).remove(0);
        full(&mut channels, &run, now, Left::Ledger);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    // In service for a moment is no cure, for a while is.
    for (served, wait) in [(1, 60), (60, 1)] {
        now = channels.wakeup().unwrap().as_secs();
        run = channels.due(at(now)).remove(0);
        assert!(channels.opened(&run, at(now)));
        full(&mut channels, &run, now + served, Left::Ledger);
        assert_eq!(channels.wakeup().unwrap().as_secs(), now + served + wait);
    }
    let _ = run;
}

#[test]
fn reports_of_an_earlier_run_change_nothing() {
    let (mut channels, first) = in_state("failed");
    let second = channels.due(at(1)).remove(0);
    assert!(!channels.opened(&first, at(1)));
    assert_eq!(full(&mut channels, &first, 1, Left::Nothing), Aftermath::Stale);
    assert!(channels.opened(&second, at(1)));
    let (third, _) = channels.leave(&id()).unwrap();
    assert_eq!(full(&mut channels, &second, 1, Left::Ledger), Aftermath::Stale);
    channels.left(&second);
    assert_eq!(shown(&channels), "leaving");
    channels.left(&third);
    assert_eq!(shown(&channels), "none");
    assert_eq!(channels.leave(&id()), Err(LeaveRefused::Unknown));
}

#[test]
fn a_token_of_another_channel_deletes_nothing() {
    let (mut channels, run) = in_state("joining");
    let other = Left::Created(Created::new(ChannelId::new("other").unwrap()));
    assert_eq!(full(&mut channels, &run, 0, other), Aftermath::Listed(Some(at(1))));
}

#[test]
fn an_end_begins_nothing_and_waits_for_what_is_under_way() {
    let (mut channels, run) = in_state("joining");
    channels.stop();
    assert_eq!(channels.join(&ChannelId::new("other").unwrap()), Err(JoinRefused::Stopping));
    assert!(channels.is_busy());
    assert!(channels.opened(&run, at(1)), "a join under way comes to its end");
    assert!(!channels.is_busy());
    full(&mut channels, &run, 1, Left::Ledger);
    assert_eq!((channels.wakeup(), channels.due(at(99))), (None, vec![]));
    let (mut channels, _) = in_state("failed");
    channels.stop();
    assert_eq!((channels.wakeup(), channels.due(at(99))), (None, vec![]));
}
