//! Whom to ask next, over a clock that stands.

use std::time::Duration;

use tokio::time::Instant;
use weft_peer::gateway::hedge::{Race, Step};

const DELAY: Duration = Duration::from_millis(200);

fn at(begin: Instant, millis: u64) -> Instant {
    begin + Duration::from_millis(millis)
}

fn begun(begin: Instant) -> Race {
    let mut race = Race::new(vec![2, 0, 1]);
    assert_eq!(race.step(begin), Step::Ask(2));
    race.asked(2, begin, DELAY);
    race
}

#[test]
fn one_is_enough_while_it_is_in_time() {
    let begin = Instant::now();
    let race = begun(begin);
    assert_eq!(race.step(at(begin, 199)), Step::Wait(Some(at(begin, 200))));
}

#[test]
fn the_next_is_asked_at_once_when_one_fails() {
    let begin = Instant::now();
    let mut race = begun(begin);
    race.failed(2, false);
    assert_eq!(race.step(at(begin, 1)), Step::Ask(0));
    race.asked(0, at(begin, 1), DELAY);
    race.failed(0, false);
    assert_eq!(race.step(at(begin, 2)), Step::Ask(1));
    race.asked(1, at(begin, 2), DELAY);
    race.failed(1, false);
    assert_eq!(race.step(at(begin, 3)), Step::Over);
    assert!(!race.again(), "nobody said that another time could help");
}

#[test]
fn a_late_one_is_joined_by_the_next() {
    let begin = Instant::now();
    let mut race = begun(begin);
    assert_eq!(race.step(at(begin, 200)), Step::Hedge { late: 2, next: 0 });
    race.asked(0, at(begin, 200), DELAY);
    assert_eq!(race.step(at(begin, 201)), Step::Wait(Some(at(begin, 400))));
    // When that one fails, the first one is late still.
    race.failed(0, false);
    assert_eq!(race.step(at(begin, 210)), Step::Ask(1));
    race.asked(1, at(begin, 210), DELAY);
    let overtaken: Vec<_> = race.overtaken_by(1).collect();
    assert_eq!(overtaken, [2]);
    assert_eq!(race.step(at(begin, 500)), Step::Wait(None), "all are asked");
}

#[test]
fn a_hedge_that_is_not_allowed_is_put_off() {
    let begin = Instant::now();
    let mut race = begun(begin);
    race.postponed(at(begin, 200));
    assert_eq!(race.step(at(begin, 200)), Step::Wait(Some(at(begin, 400))));
    assert_eq!(race.step(at(begin, 400)), Step::Hedge { late: 2, next: 0 });
}

#[test]
fn another_round_leaves_out_who_has_not_answered() {
    let begin = Instant::now();
    let mut race = begun(begin);
    race.asked(0, at(begin, 200), DELAY);
    race.failed(0, true);
    assert_eq!(race.step(at(begin, 201)), Step::Ask(1));
    race.asked(1, at(begin, 201), DELAY);
    race.failed(1, false);
    // The first one is silent, the second cannot at the moment.
    assert_eq!(race.step(at(begin, 202)), Step::Over);
    assert!(race.again());
    assert_eq!(race.step(at(begin, 250)), Step::Ask(0));
    race.asked(0, at(begin, 250), DELAY);
    assert_eq!(race.step(at(begin, 251)), Step::Wait(Some(at(begin, 450))));
    assert_eq!(race.step(at(begin, 450)), Step::Hedge { late: 0, next: 1 });
}

#[test]
fn nobody_to_ask() {
    assert_eq!(Race::new(Vec::new()).step(Instant::now()), Step::Over);
}
