use super::super::observe::Role;
use super::*;

/// Reads `name:flags`. Flags: `w` wanted, `l` listed, `c` its certificate is not the config's;
/// `?` silent, `x` without the channel, `o` with an older channel of that name, `F` failed, `b` far behind, `q` quarantined, `L` leads,
/// `f` follower; a listed one without any of these takes part.
fn standing(text: &str) -> Standing {
    let (name, flags) = text.split_once(':').unwrap();
    let has = |flag: char| flags.contains(flag);
    let role = match () {
        () if has('q') => Role::Quarantined,
        () if has('L') => Role::Leader,
        () if has('f') => Role::Observer,
        () => Role::Follower,
    };
    let chain = OrdererChannel {
        height: if has('b') { 3 } else { 100 },
        relation: if has('f') { "follower" } else { "consenter" }.to_owned(),
        status: if has('F') { "failed" } else { "active" }.to_owned(),
        is_leader: has('L'),
        role: Some(role),
        term: 2,
        failure: has('F').then(|| "no space left".to_owned()),
        ..OrdererChannel::default()
    };
    Standing {
        name: name.to_owned(),
        endpoint: Endpoint::new(name, 7050),
        wanted: has('w'),
        listed: has('l'),
        current_certificate: !has('c'),
        chain: match () {
            () if has('?') => Chain::Unknown,
            () if has('x') => Chain::Missing,
            () if has('o') => Chain::Foreign("abc".to_owned()),
            () => Chain::Has(chain),
        },
    }
}

fn told(step: Step) -> String {
    match step {
        Step::Done => "done".to_owned(),
        Step::Change { edit: Edit::AddConsenter(at), .. } => format!("add {}", at.host),
        Step::Change { edit: Edit::ReplaceConsenter(at), .. } => format!("exchange {}", at.host),
        Step::Change { edit: Edit::RemoveConsenter(at), .. } => format!("remove {}", at.host),
        Step::Change { edit, .. } => format!("{edit}"),
        Step::Wait(wait) => format!("wait {}", wait.reason),
        Step::Refuse(refused) => format!("refuse {}", refused.reason),
    }
}

#[track_caller]
fn check(orderers: &str, expected: &str) {
    let orderers: Vec<Standing> = orderers.split_whitespace().map(standing).collect();
    assert_eq!(told(decide(&orderers, 100)), expected);
}

#[test]
fn nothing_is_done_where_all_is_as_wanted() {
    check("a:wl", "done");
    check("a:wlL b:wl c:wl", "done");
    check("a:wlL b:wl? c:wl", "done");
    check("a:wl? b:wl? c:wl?", "done");
}

#[test]
fn an_orderer_is_added_once_it_has_caught_up() {
    check("a:wlL b:wl c:wl d:wf", "add d");
    check("a:wlL b:wl c:wl d:wfb", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:wx", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:w?", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:wfF", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:wfb e:wf", "add e");
    check("a:wlL b:wf", "add b");
    check("a:wlL b:wl c:wf", "add c");
}

#[test]
fn the_next_is_added_when_the_last_takes_part() {
    check("a:wlL b:wl c:wl d:wlb e:wf", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:wlq e:wf", "wait CatchingUp");
    check("a:wlL b:wl c:wl d:wl e:wf", "add e");
    // One that is down does not hold the others up as long as there are enough.
    check("a:wlL b:wl c:wl d:wl? e:wf", "add e");
    check("a:wlL b:wl c:wl? d:wf", "wait QuorumAtRisk");
}

#[test]
fn extra_orderers_go_one_by_one_the_leader_last() {
    check("a:wl b:wl c:wl d:lL e:l", "remove e");
    check("a:wl b:wl c:wl d:lL", "remove d");
    check("a:wlL b:wl c:wl d:l e:l?", "remove e");
    check("a:wlL b:wl c:wl d:l? e:l", "remove d");
    check("a:wlL b:l", "remove b");
    check("a:lL", "refuse QuorumAtRisk");
}

#[test]
fn a_removal_that_costs_the_quorum_is_refused() {
    check("a:wlL b:wl? c:wl d:l", "remove d");
    check("a:wlL b:wl? c:l", "refuse QuorumAtRisk");
    check("a:wlL b:wl? c:wl? d:l e:l", "refuse QuorumAtRisk");
    check("a:wlL b:wl? c:wl? d:l?", "wait NoQuorum");
}

#[test]
fn a_consenter_without_its_ledger_goes_and_comes_back_as_a_new_one() {
    check("a:wlL b:wl c:wlx", "remove c");
    check("a:wlL b:wl c:wf", "add c");
    check("a:wlL b:wlx", "refuse QuorumLost");
    check("a:wlx", "refuse QuorumLost");
    check("a:wlL b:wl? c:wlx", "wait NoQuorum");
    check("a:wlL b:wl c:wl d:wlx e:wlx", "remove d");
    check("a:wlL b:wlx c:wlx", "refuse QuorumLost");
    // Before anything else, and before the channel has more than its genesis block not at all.
    check("a:wlL b:wlc c:wl d:wlx", "remove d");
    let fresh: Vec<Standing> = ["a:wl", "b:wlx"].map(standing).into();
    assert_eq!(decide(&fresh, 1), Step::Done);
}

#[test]
fn certificates_are_exchanged_one_by_one() {
    check("a:wlLc b:wlc c:wl", "exchange b");
    check("a:wlLc b:wl c:wl", "exchange a");
    check("a:wlL b:wlc c:wl", "exchange b");
    check("a:wlLc", "exchange a");
    check("a:wlLc b:wl", "exchange a");
    // One that is down comes back by it; one that is up is not taken away from a bare quorum.
    check("a:wlL b:wl? c:wlc", "wait QuorumAtRisk");
    check("a:wlL b:wl c:wlc?", "exchange c");
    check("a:wlL b:wlb c:wlc", "wait CatchingUp");
    check("a:wlL b:wlq c:wl d:wlc", "wait CatchingUp");
    check("a:wlL b:wlc c:wl d:wf", "exchange b");
}

#[test]
fn an_orderer_whose_channel_has_failed_has_not_lost_it() {
    // A full disk, or a channel that is opened again: whatever it says, it stays a consenter.
    check("a:wlL b:wl c:wlF", "done");
    check("a:wlL b:wlF c:wlF", "done");
    check("a:wlL b:wl c:wlFb", "done");
    check("a:wlL b:wl c:wlF d:wlx", "wait NoQuorum");
    check("a:wlL b:wl c:wl d:wlF e:wlx", "remove e");
    let all = ["a:wlL", "b:wl", "c:wlF"].map(standing);
    let trouble = troubles(&all).unwrap();
    assert_eq!(trouble.reason, "ChannelFailed");
    assert_eq!(trouble.message, "the channel has failed at c: no space left");
    assert_eq!(troubles(&all[..2]), None);
    // What is neither wanted nor listed troubles nobody.
    assert_eq!(troubles(&[standing("d:F"), standing("e:o")]), None);
}

#[test]
fn an_older_channel_of_that_name_takes_no_part_and_is_told() {
    check("a:wlL b:wl c:wlo", "done");
    check("a:wlL b:wlo c:wlo", "done");
    check("a:wlL b:wl c:wl d:wo", "wait CatchingUp");
    check("a:wlL b:wl? c:wlo d:wf", "wait NoQuorum");
    let trouble = troubles(&["a:wlL", "c:wlo"].map(standing)).unwrap();
    assert_eq!(trouble.reason, "ForeignLedger");
    assert!(trouble.message.contains("c has a ledger") && trouble.message.contains("abc"));
}
