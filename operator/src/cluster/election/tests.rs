use super::*;
use crate::cluster::testing::{ApiServer, Fault};

pub(super) const TIMES: Times = Times {
    lease: Duration::from_secs(15),
    deadline: Duration::from_secs(10),
    renew: Duration::from_secs(5),
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn wall(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

fn lease(holder: &str, renewed: u64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(3),
        renew_time: Some(MicroTime(wall(renewed))),
        ..LeaseSpec::default()
    }
}

/// What a candidate that stands by does at `now` about a Lease that it has seen since `since`.
fn stands_by(spec: Option<LeaseSpec>, since: u64, now: u64) -> Step {
    let mut candidate = Candidate::new("a", TIMES);
    candidate.saw(spec.as_ref(), s(since));
    candidate.saw(spec.as_ref(), s(now));
    candidate.decide(s(now), wall(now))
}

fn writes(step: &Step) -> Option<(String, i32)> {
    match step {
        Step::Write(spec) => {
            Some((spec.holder_identity.clone().unwrap(), spec.lease_transitions.unwrap()))
        }
        _ => None,
    }
}

#[test]
fn one_that_stands_by_takes_only_what_is_free() {
    // (Lease, first seen so, now) → what is written, or how long is waited.
    assert_eq!(writes(&stands_by(None, 0, 0)), Some(("a".into(), 0)), "there is none");
    assert_eq!(stands_by(Some(lease("b", 0)), 0, 0), Step::Wait(s(5)), "another's");
    assert_eq!(stands_by(Some(lease("b", 0)), 0, 13), Step::Wait(s(2)), "almost run out");
    assert_eq!(writes(&stands_by(Some(lease("b", 0)), 0, 15)), Some(("a".into(), 4)), "run out");
    assert_eq!(writes(&stands_by(Some(lease("", 0)), 0, 0)), Some(("a".into(), 4)), "given back");
    assert_eq!(writes(&stands_by(Some(lease("a", 0)), 0, 0)), Some(("a".into(), 3)), "its own");
}

#[test]
fn the_times_in_a_lease_do_not_matter() {
    // Written an hour ago by the other's clock, or an hour ahead: it runs out 15 s after it was
    // first seen.
    for renewed in [0, 7200] {
        let found = stands_by(Some(lease("b", renewed)), 3600, 3610);
        assert_eq!(found, Step::Wait(s(5)));
        assert!(writes(&stands_by(Some(lease("b", renewed)), 3600, 3615)).is_some());
    }
}

#[test]
fn a_change_makes_it_run_anew() {
    let mut candidate = Candidate::new("a", TIMES);
    candidate.saw(Some(&lease("b", 0)), s(0));
    candidate.saw(Some(&lease("b", 5)), s(14));
    assert_eq!(candidate.decide(s(20), wall(20)), Step::Wait(s(5)));
    assert!(writes(&candidate.decide(s(29), wall(29))).is_some());
}

#[test]
fn a_longer_duration_of_the_holder_is_kept() {
    let spec = LeaseSpec { lease_duration_seconds: Some(60), ..lease("b", 0) };
    assert_eq!(stands_by(Some(spec.clone()), 0, 30), Step::Wait(s(5)));
    assert!(writes(&stands_by(Some(spec), 0, 60)).is_some());
}

fn leader(asked: u64) -> Candidate {
    let mut candidate = Candidate::new("a", TIMES);
    candidate.saw(None, s(asked));
    let Step::Write(spec) = candidate.decide(s(asked), wall(asked)) else {
        panic!("a Lease that is not there is made")
    };
    candidate.wrote(&spec, s(asked));
    candidate
}

#[test]
fn a_leader_counts_from_the_moment_at_which_it_asked() {
    let candidate = leader(100);
    assert!(candidate.leads(s(109)));
    assert!(!candidate.leads(s(110)));
    assert_eq!(candidate.patience(s(104)), s(6));
    assert!(writes(&candidate.decide(s(105), wall(105))).is_some());
    assert_eq!(candidate.decide(s(110), wall(110)), Step::Lost);
}

#[test]
fn a_leader_that_sees_another_one_has_lost() {
    let mut candidate = leader(0);
    candidate.saw(Some(&lease("b", 1)), s(1));
    assert_eq!(candidate.decide(s(1), wall(1)), Step::Lost);
    assert_eq!(candidate.release(wall(1)), None, "it is not ours to give back");
    let mut candidate = leader(0);
    candidate.saw(None, s(1));
    assert_eq!(candidate.decide(s(1), wall(1)), Step::Lost, "somebody deleted it");
}

#[test]
fn a_renewal_keeps_what_a_new_holder_sets() {
    let candidate = leader(0);
    let Step::Write(renewed) = candidate.decide(s(5), wall(5)) else { panic!("a renewal") };
    assert_eq!(renewed.acquire_time, Some(MicroTime(wall(0))));
    assert_eq!(renewed.renew_time, Some(MicroTime(wall(5))));
    let released = candidate.release(wall(6)).unwrap();
    assert_eq!(released.holder_identity.as_deref(), Some(""));
    assert_eq!(leader(0).decide(s(5), wall(5)), Step::Write(renewed));
}

/// Fast, and patient with a machine that has other things to do.
const FAST: Times = Times {
    lease: Duration::from_secs(3),
    deadline: Duration::from_secs(1),
    renew: Duration::from_millis(200),
};

fn election(server: &ApiServer, identity: &str, times: Times) -> Election {
    Election::new(server.client(), "n", "weft-operator", identity, times)
}

fn holder(server: &ApiServer) -> String {
    let lease = server.object("Lease", "n", "weft-operator").unwrap();
    lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_at_the_next_look() {
    let server = ApiServer::new();
    let times = Times { lease: Duration::from_secs(3600), ..FAST };
    let mut first = election(&server, "a", times).lead().await;
    let mut other = Box::pin(election(&server, "b", times).lead());
    tokio::select! {
        _ = &mut other => panic!("the Lease is another's"),
        () = first.keep() => panic!("nobody takes it"),
        () = tokio::time::sleep(FAST.renew * 3) => {}
    }
    assert_eq!(holder(&server), "a");
    first.release().await;
    let second = other.await;
    assert_eq!(holder(&server), "b");
    let lease = server.object("Lease", "n", "weft-operator").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    second.release().await;
    assert_eq!(holder(&server), "");
}

#[tokio::test]
async fn one_that_takes_no_part_any_more_stops_before_another_begins() {
    let server = ApiServer::new();
    let mut first = election(&server, "a", FAST).lead().await;
    // Whatever it writes from now on is never answered.
    server.fail(Box::new(|call| call.write.is_some().then_some(Fault::Hang)));
    first.keep().await;
    assert_eq!(holder(&server), "a");
    server.fail(Box::new(|_| None));
    let second = election(&server, "b", FAST).lead().await;
    assert_eq!(holder(&server), "b");
    // Too late, and it knows: what is another's is not given back.
    first.release().await;
    assert_eq!(holder(&server), "b");
    drop(second);
}

#[tokio::test]
async fn refused_writes_are_tried_again() {
    let server = ApiServer::new();
    let faults = [Fault::Refuse(409), Fault::Refuse(500), Fault::Lost, Fault::Refuse(429)];
    let mut at = 0;
    server.fail(Box::new(move |call| {
        at += usize::from(call.write.is_some());
        (call.write.is_some() && at % 2 == 1).then(|| faults[at / 2 % faults.len()])
    }));
    let times = Times { deadline: Duration::from_secs(60), lease: Duration::from_secs(90), ..FAST };
    let mut leadership = election(&server, "a", times).lead().await;
    tokio::select! {
        () = leadership.keep() => panic!("it is renewed in time"),
        () = tokio::time::sleep(times.renew * 8) => {}
    }
    assert!(server.writes().len() > 4);
    assert_eq!(holder(&server), "a");
}

#[tokio::test]
async fn of_two_that_find_no_lease_one_leads() {
    let server = ApiServer::new();
    let times = Times { lease: Duration::from_secs(3600), ..FAST };
    let delay = Fault::Delay(Duration::from_millis(20));
    server.fail(Box::new(move |call| call.write.is_some().then_some(delay)));
    let first = election(&server, "a", times).lead();
    let other = election(&server, "b", times).lead();
    let (mut first, mut other) = (Box::pin(first), Box::pin(other));
    let winner = tokio::select! {
        winner = &mut first => { drop(winner); "a" }
        winner = &mut other => { drop(winner); "b" }
    };
    assert_eq!(holder(&server), winner);
    let loser = if winner == "a" { other } else { first };
    let waited = tokio::time::timeout(FAST.renew * 4, loser).await;
    assert!(waited.is_err(), "the Lease is another's");
}
