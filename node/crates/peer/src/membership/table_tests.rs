#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use weft_msp::Authenticated;
use weft_testkit::Org;

use super::*;

const EXPIRY: Duration = Duration::from_secs(25);

/// One identity for each of two organizations: the table does not look into them.
static IDENTITIES: LazyLock<Vec<Authenticated>> = LazyLock::new(|| {
    let of = |name| {
        let org = Org::new(name);
        org.peer.authenticated()
    };
    vec![of("Org1MSP"), of("Org2MSP")]
});

fn member(org: usize, number: u8, address: &str) -> Member {
    Member {
        id: PkiId([number; 32]),
        identity: IDENTITIES[org - 1].clone(),
        endpoint: address.to_owned(),
        alive: Envelope::default(),
        is_self: false,
    }
}

fn at(sequence: u64) -> Time {
    Time { started: 1, sequence }
}

struct Fixture {
    table: Table,
    now: Instant,
}

impl Fixture {
    fn new(capacity: usize) -> Self {
        Self { table: Table::new(capacity, EXPIRY), now: Instant::now() }
    }

    fn tell(&mut self, member: Member, sequence: u64, source: Source) -> bool {
        self.table.alive(member, at(sequence), source, self.now)
    }

    fn wait(&mut self, expiries: u32) -> bool {
        self.now += EXPIRY * expiries + Duration::from_secs(1);
        self.table.expire(self.now)
    }

    fn ids(&self) -> Vec<u8> {
        self.table.members().map(|member| member.id.0[0]).collect()
    }

    fn visits(&mut self) -> BTreeSet<String> {
        let visits = self.table.visits(self.now, |_| Some(()));
        visits.into_keys().map(|place| place.address).collect()
    }
}

#[test]
fn hearsay_makes_no_member_until_the_peer_is_met() {
    let mut all = Fixture::new(10);
    assert!(!all.tell(member(1, 7, "p:1"), 5, Source::Hearsay));
    assert!(all.ids().is_empty());
    assert_eq!(all.visits(), ["p:1".to_owned()].into());
    assert!(all.visits().is_empty(), "not again at once");
    // Somebody else is there, or it is elsewhere.
    assert!(!all.table.met(PkiId([8; 32]), "p:1", all.now));
    assert!(!all.table.met(PkiId([7; 32]), "p:2", all.now));
    assert!(all.table.met(PkiId([7; 32]), "p:1", all.now));
    assert_eq!(all.ids(), [7]);
    assert!(all.tell(member(2, 9, "q:1"), 1, Source::Own));
    assert_eq!(all.ids(), [7, 9]);
}

#[test]
fn no_message_brings_back_who_is_gone() {
    let mut all = Fixture::new(10);
    all.tell(member(1, 7, "p:1"), 5, Source::Own);
    assert!(all.wait(1));
    // Messages that it had told before, and some that nobody here has seen.
    for sequence in [5, 3, 6, 100] {
        assert!(!all.tell(member(1, 7, "p:1"), sequence, Source::Hearsay));
        all.wait(0);
        assert!(all.ids().is_empty());
    }
    // It is there again, with a message that was hearsay before.
    assert!(all.tell(member(1, 7, "p:1"), 100, Source::Own));
}

#[test]
fn hearsay_keeps_a_member_for_a_while_only() {
    let mut all = Fixture::new(10);
    all.tell(member(1, 7, "p:1"), 0, Source::Own);
    let mut sequence = 0;
    while all.ids() == [7] {
        sequence += 1;
        all.tell(member(1, 7, "p:1"), sequence, Source::Hearsay);
        all.wait(0);
        all.now += EXPIRY / 2;
        assert!(sequence < 100, "it is kept for ever");
    }
    assert!(sequence > 5);
    // One that can be met stays.
    all.tell(member(1, 8, "p:2"), 0, Source::Own);
    for sequence in 1..100 {
        all.tell(member(1, 8, "p:2"), sequence, Source::Hearsay);
        all.wait(0);
        all.now += EXPIRY / 2;
        for address in all.visits() {
            all.table.met(PkiId([8; 32]), &address, all.now);
        }
        assert!(all.ids().contains(&8));
    }
}

#[test]
fn a_place_is_taken_by_who_is_met_there() {
    let mut all = Fixture::new(10);
    all.tell(member(1, 7, "p:1"), 5, Source::Own);
    // Older than who is there.
    assert!(!all.tell(member(1, 8, "p:1"), 4, Source::Own));
    assert!(!all.table.met(PkiId([8; 32]), "p:1", all.now));
    // Newer, as after a renewal, or said so.
    assert!(!all.tell(member(1, 9, "p:1"), 6, Source::Own));
    assert_eq!(all.ids(), [7]);
    assert!(all.table.met(PkiId([9; 32]), "p:1", all.now));
    assert_eq!(all.ids(), [9]);
    // At the same address, of another organization.
    assert!(all.tell(member(2, 1, "p:1"), 1, Source::Own));
    assert_eq!(all.ids(), [1, 9]);
}

#[test]
fn a_member_that_moves_by_hearsay_is_met_first() {
    let mut all = Fixture::new(10);
    all.tell(member(1, 7, "p:1"), 5, Source::Own);
    assert!(!all.tell(member(1, 7, "p:2"), 6, Source::Hearsay));
    let address = |all: &Fixture| all.table.members().next().unwrap().endpoint.clone();
    assert_eq!(address(&all), "p:1");
    assert!(all.table.met(PkiId([7; 32]), "p:2", all.now));
    assert_eq!(address(&all), "p:2");
    assert!(all.tell(member(1, 7, "p:3"), 7, Source::Own));
    assert_eq!(address(&all), "p:3");
}

#[test]
fn one_organization_fills_neither_table() {
    for source in [Source::Own, Source::Hearsay] {
        let mut all = Fixture::new(20);
        for number in 0..100 {
            all.tell(member(1, number, &format!("p:{number}")), 1, source);
        }
        all.tell(member(2, 200, "q:1"), 1, source);
        let places: Vec<_> = all.table.places().collect();
        assert_eq!(places.len(), 17, "{source:?}");
        assert!(places.iter().any(|place| place.address == "q:1"));
    }
    // A peer with a renewed certificate keeps its place when others have taken what was free.
    let mut all = Fixture::new(20);
    for number in 0..100 {
        all.tell(member(1, number, &format!("p:{number}")), 1, Source::Own);
        all.tell(member(2, 100 + number, &format!("q:{number}")), 1, Source::Own);
    }
    let before = all.ids().len();
    all.tell(member(1, 250, "p:0"), 2, Source::Hearsay);
    assert!(all.table.met(PkiId([250; 32]), "p:0", all.now));
    assert_eq!(all.ids().len(), before);
}
