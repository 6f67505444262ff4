//! What is remembered of a node, as tables over a clock that stands.

use std::time::Duration;

use tokio::time::Instant;
use weft_peer::gateway::health::{Budget, Delays, Health, HealthTable, Standing};

const DELAYS: Delays =
    Delays { floor: Duration::from_millis(200), ceiling: Duration::from_secs(1) };

/// What happens, at a time in milliseconds.
#[derive(Clone, Copy)]
enum Event {
    Sent,
    Answered(u64),
    Failed,
    /// Nobody waits any more for what was sent then.
    Withdrawn(u64),
    Overtaken,
}

use Event::{Answered, Failed, Overtaken, Sent, Withdrawn};

fn after(begin: Instant, events: &[(u64, Event)]) -> Health {
    let mut health = Health::new(DELAYS);
    for (at, event) in events {
        let now = begin + Duration::from_millis(*at);
        match event {
            Sent => health.sent(now),
            Answered(took) => health.answered(now, Duration::from_millis(*took)),
            Failed => health.failed(now),
            Withdrawn(sent) => health.withdrawn(now, begin + Duration::from_millis(*sent)),
            Overtaken => health.overtaken(now),
        }
    }
    health
}

fn check(events: &[(u64, Event)], at: u64, expected: Standing) {
    let begin = Instant::now();
    let standing = after(begin, events).standing(begin + Duration::from_millis(at));
    let names: Vec<u64> = events.iter().map(|(at, _)| *at).collect();
    assert_eq!(standing, expected, "events at {names:?}, asked at {at}");
}

#[test]
fn a_node_that_answers_is_healthy() {
    check(&[], 0, Standing::Healthy);
    check(&[(0, Sent)], 199, Standing::Healthy);
    check(&[(0, Sent), (10, Answered(10))], 10_000, Standing::Healthy);
    // One answer is a sign of life for all that wait.
    check(&[(0, Sent), (0, Sent), (150, Answered(150))], 300, Standing::Healthy);
}

#[test]
fn a_node_that_gives_no_sign_of_life_is_suspect_until_it_does() {
    check(&[(0, Sent)], 200, Standing::Suspect);
    check(&[(0, Sent), (0, Sent), (150, Answered(150))], 600, Standing::Suspect);
    check(&[(0, Sent), (5_000, Answered(5_000))], 5_000, Standing::Healthy);
}

#[test]
fn a_client_that_gives_up_takes_nothing_away() {
    check(&[(0, Sent), (5_000, Withdrawn(0))], 5_001, Standing::Suspect);
    // It did not wait for long enough to know.
    check(&[(0, Sent), (100, Withdrawn(0))], 5_000, Standing::Healthy);
    // It came late to a node that was silent for others.
    check(&[(0, Sent), (290, Sent), (300, Withdrawn(290))], 301, Standing::Suspect);
}

#[test]
fn a_rest_ends_with_one_that_probes() {
    let failed = [(0, Sent), (5, Failed)];
    check(&failed, 6, Standing::Suspect);
    check(&failed, 1_004, Standing::Suspect);
    check(&failed, 1_005, Standing::Probing);
    let probed = [(0, Sent), (5, Failed), (1_100, Sent)];
    check(&probed, 1_101, Standing::Suspect);
    let well = [(0, Sent), (5, Failed), (1_100, Sent), (1_110, Answered(10))];
    check(&well, 1_111, Standing::Healthy);
    // The rest doubles.
    let again = [(0, Sent), (5, Failed), (1_100, Sent), (1_110, Failed)];
    check(&again, 3_109, Standing::Suspect);
    check(&again, 3_110, Standing::Probing);
}

#[test]
fn many_failures_at_once_count_once() {
    let mut events = vec![(0, Sent); 50];
    events.extend([(5, Failed); 50]);
    check(&events, 1_005, Standing::Probing);
}

#[test]
fn an_overtaken_node_rests() {
    check(&[(0, Sent), (150, Overtaken)], 160, Standing::Suspect);
}

#[test]
fn the_delay_follows_the_latency() {
    let begin = Instant::now();
    let delay = |events: &[(u64, Event)], at: u64| {
        after(begin, events).delay(begin + Duration::from_millis(at)).as_millis()
    };
    assert_eq!(delay(&[], 0), 200);
    assert_eq!(delay(&[(0, Sent), (9, Answered(9))], 10), 200);
    assert_eq!(delay(&[(0, Sent), (150, Answered(150))], 160), 450);
    assert_eq!(delay(&[(0, Sent), (199, Answered(900))], 200), 1_000);
    // What a suspect took says nothing about what is usual, and it is not waited for as long.
    assert_eq!(delay(&[(0, Sent), (900, Answered(900))], 901), 200);
    assert_eq!(delay(&[(0, Sent), (5, Failed)], 6), 50);
    // One outlier in a hundred does not count, once there are as many.
    let mut many = vec![(0, Sent), (190, Answered(190))];
    many.extend((0..127).flat_map(|n| [(200 + n, Sent), (200 + n, Answered(1))]));
    assert_eq!(delay(&many, 400), 200);
}

#[test]
fn hedges_for_slowness_are_rationed() {
    let mut budget = Budget::default();
    let calls = 1_000;
    let mut hedged = 0;
    for _ in 0..calls {
        budget.earn();
        hedged += u32::from(budget.spend());
    }
    // The burst is there already when the first call earns.
    assert_eq!(hedged, Budget::BURST + (calls - 1) / Budget::ONE_IN);
}

/// A node that is late for one costs the budget, a silent one does not.
#[test]
fn only_silence_is_hedged_without_limit() {
    let table = HealthTable::new(DELAYS);
    let begin = Instant::now();
    let _asked = [table.ask("silent"), table.ask("slow")];
    let hedges = |node: &str, millis: u64| {
        let now = begin + Duration::from_millis(millis);
        (0..100).filter(|_| table.may_hedge(node, now)).count()
    };
    assert_eq!(hedges("silent", 3_600_000), 100);
    assert_eq!(hedges("slow", 0), Budget::BURST as usize);
}
