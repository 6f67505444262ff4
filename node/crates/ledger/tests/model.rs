//! Simulation, validation and commit against a naive model: a map, and transactions that are
//! valid exactly where running their reads again on the map gives the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use common::{inputs, memory_ledger, results, try_commit};
use proptest::prelude::*;
use weft_ledger::mvcc;
use weft_ledger::rwset::TxRwSet;
use weft_ledger::simulator::QueryLimits;
use weft_ledger::state::metadata::{self, Metadata};
use weft_ledger::state::{KvState, StateReader};
use weft_ledger::{Simulator, UpdateBatch, Version};
use weft_types::ValidationCode::{self, MvccReadConflict, PhantomReadConflict, Valid};

type Name = (usize, u8);

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    value: u8,
    metadata: Option<u8>,
    version: Version,
}

type Model = BTreeMap<Name, Cell>;

#[derive(Clone, Debug)]
enum Op {
    Read(Name),
    /// From, to (the largest is open), and how many steps.
    Range(usize, u8, u8, usize),
    Put(Name, u8),
    Delete(Name),
    Meta(Name, Option<u8>),
}

/// A transaction: how many blocks ago it was simulated, and what it does.
type Tx = (usize, Vec<Op>);

const NAMESPACES: [&str; 2] = ["aa", "bb"];
const OPEN: u8 = 9;

fn key(n: u8) -> String {
    format!("k{n}")
}

fn end(n: u8) -> String {
    if n == OPEN { String::new() } else { key(n) }
}

fn name() -> impl Strategy<Value = Name> {
    (0usize..2, 0u8..8)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => name().prop_map(Op::Read),
        2 => (0usize..2, 0u8..8, 0u8..=OPEN, 0usize..12)
            .prop_map(|(namespace, from, to, steps)| Op::Range(namespace, from, to, steps)),
        4 => (name(), 1u8..5).prop_map(|(name, value)| Op::Put(name, value)),
        2 => name().prop_map(Op::Delete),
        2 => (name(), prop::option::of(1u8..4)).prop_map(|(name, value)| Op::Meta(name, value)),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Tx>>> {
    let tx = (0usize..3, prop::collection::vec(op(), 0..6));
    prop::collection::vec(prop::collection::vec(tx, 0..6), 1..8)
}

fn run(op: &Op, tx: &mut Simulator) {
    match op {
        Op::Read((ns, k)) => drop(tx.get_state(NAMESPACES[*ns], &key(*k)).unwrap()),
        Op::Range(ns, from, to, steps) => {
            let cursor = tx.open_range(NAMESPACES[*ns], &key(*from), &end(*to)).unwrap();
            (0..*steps).for_each(|_| drop(tx.next(cursor).unwrap()));
        }
        Op::Put((ns, k), value) => {
            tx.put_state(NAMESPACES[*ns], &key(*k), vec![*value].into()).unwrap();
        }
        Op::Delete((ns, k)) => tx.delete_state(NAMESPACES[*ns], &key(*k)).unwrap(),
        Op::Meta((ns, k), value) => {
            let value = value.map(|value| ("m".to_owned(), vec![value].into()));
            let metadata: Metadata = value.into_iter().collect();
            tx.put_state_metadata(NAMESPACES[*ns], &key(*k), &metadata).unwrap();
        }
    }
}

/// Keys and versions of a range; the end belongs to it where `closed`.
fn range(model: &Model, ns: usize, from: u8, to: u8, closed: bool) -> Vec<(u8, Version)> {
    let start = Bound::Included((ns, from));
    let stop = match (to, closed) {
        (OPEN, _) => Bound::Excluded((ns + 1, 0)),
        (to, true) => Bound::Included((ns, to)),
        (to, false) => Bound::Excluded((ns, to)),
    };
    if to != OPEN && to < from {
        return Vec::new();
    }
    model.range((start, stop)).map(|((_, k), cell)| (*k, cell.version)).collect()
}

fn version(model: &Model, name: Name) -> Option<Version> {
    model.get(&name).map(|cell| cell.version)
}

/// What a reader of `seen` depends on still holds in `now`.
fn range_holds(seen: &Model, now: &Model, (ns, from, to, steps): (usize, u8, u8, usize)) -> bool {
    let whole = range(seen, ns, from, to, false);
    if steps > whole.len() {
        return range(now, ns, from, to, false) == whole;
    }
    let read = &whole[..steps];
    match read.last() {
        None => range(now, ns, from, OPEN, false).is_empty(),
        Some((last, _)) => range(now, ns, from, *last, true) == read,
    }
}

fn code(ops: &[Op], seen: &Model, now: &Model, touched: &BTreeSet<Name>) -> ValidationCode {
    for namespace in 0..NAMESPACES.len() {
        for op in ops {
            if let Op::Read(name) = op
                && name.0 == namespace
                && (touched.contains(name) || version(seen, *name) != version(now, *name))
            {
                return MvccReadConflict;
            }
        }
        for op in ops {
            if let Op::Range(ns, from, to, steps) = op
                && *ns == namespace
                && !range_holds(seen, now, (*ns, *from, *to, *steps))
            {
                return PhantomReadConflict;
            }
        }
    }
    Valid
}

fn apply(ops: &[Op], at: Version, now: &mut Model, touched: &mut BTreeSet<Name>) {
    let mut values: BTreeMap<Name, Option<u8>> = BTreeMap::new();
    let mut metas: BTreeMap<Name, Option<u8>> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Put(name, value) => drop(values.insert(*name, Some(*value))),
            Op::Delete(name) => drop(values.insert(*name, None)),
            Op::Meta(name, value) => drop(metas.insert(*name, *value)),
            Op::Read(_) | Op::Range(..) => {}
        }
    }
    for (name, value) in &values {
        touched.insert(*name);
        let old = now.remove(name).and_then(|cell| cell.metadata);
        let metadata = metas.get(name).copied().unwrap_or(old);
        if let Some(value) = *value {
            now.insert(*name, Cell { value, metadata, version: at });
        }
    }
    for (name, metadata) in metas.into_iter().filter(|(name, _)| !values.contains_key(name)) {
        if let Some(cell) = now.get_mut(&name) {
            touched.insert(name);
            *cell = Cell { metadata, version: at, ..cell.clone() };
        }
    }
}

fn stored(state: &KvState) -> Model {
    let mut model = Model::new();
    for (ns, namespace) in NAMESPACES.iter().enumerate() {
        for (key, found) in state.range(namespace, "", "", 100).unwrap() {
            let metadata = metadata::parse(&found.metadata).unwrap();
            let metadata = metadata.get("m").map(|bytes| bytes[0]);
            let cell = Cell { value: found.value[0], metadata, version: found.version };
            model.insert((ns, key.as_bytes()[1] - b'0'), cell);
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn codes_and_state_are_the_models(blocks in blocks()) {
        let ledger = memory_ledger();
        let mut models = vec![Model::new()];
        let mut states = vec![ledger.state()];
        for (number, block) in (0u64..).zip(&blocks) {
            let mut now = models.last().unwrap().clone();
            let mut touched = BTreeSet::new();
            let mut expected = Vec::new();
            let mut sets: Vec<Bytes> = Vec::new();
            for (place, (lag, ops)) in (0u64..).zip(block) {
                let at = models.len() - 1 - lag.min(&(models.len() - 1));
                let mut tx = Simulator::new(states[at].clone(), QueryLimits::default());
                ops.iter().for_each(|op| run(op, &mut tx));
                sets.push(tx.finish().public_bytes);
                let code = code(ops, &models[at], &now, &touched);
                if code == Valid {
                    apply(ops, Version::new(number, place), &mut now, &mut touched);
                }
                expected.push(code);
            }
            let parsed = common::parsed(&sets);
            let validated = mvcc::validate(number, &inputs(&parsed), &ledger.state()).unwrap();
            prop_assert_eq!(&validated.codes, &expected);
            try_commit(&ledger, &sets, &validated).unwrap();
            prop_assert_eq!(stored(&ledger.state()), now.clone());
            models.push(now);
            states.push(ledger.state());
        }
    }

    /// Validating ahead of the commits gives what validating after each commit gives.
    #[test]
    fn validating_ahead_changes_nothing(blocks in blocks(), depth in 1usize..4) {
        let ledger = memory_ledger();
        let base = ledger.state();
        let sets: Vec<Vec<TxRwSet>> = blocks.iter().map(|block| {
            block.iter().map(|(_, ops)| {
                let mut tx = Simulator::new(base.clone(), QueryLimits::default());
                ops.iter().for_each(|op| run(op, &mut tx));
                results(tx)
            }).collect()
        }).collect();
        let after_each: Vec<_> = {
            let ledger = memory_ledger();
            sets.iter().map(|sets| {
                let number = ledger.height();
                let validated = mvcc::validate(number, &inputs(sets), &ledger.state()).unwrap();
                try_commit(&ledger, &vec![Bytes::new(); sets.len()], &validated).unwrap();
                validated
            }).collect()
        };
        let mut in_flight: Vec<Arc<UpdateBatch>> = Vec::new();
        let mut uncommitted = Vec::new();
        for (number, (sets, expected)) in (0u64..).zip(sets.iter().zip(after_each)) {
            let state = ledger.state_after(in_flight.clone());
            let validated = mvcc::validate(number, &inputs(sets), &state).unwrap();
            prop_assert_eq!(&validated, &expected);
            in_flight.push(Arc::new(validated.updates.clone()));
            uncommitted.push((sets.len(), validated));
            if uncommitted.len() == depth {
                let (count, oldest) = uncommitted.remove(0);
                try_commit(&ledger, &vec![Bytes::new(); count], &oldest).unwrap();
                in_flight.remove(0);
            }
        }
    }

    /// Pages put together are the range, whatever their size.
    #[test]
    fn pages_make_up_the_range(
        keys in prop::collection::btree_set("[a-d]{1,3}", 0..40), size in 1usize..9,
        start in "[a-d]{0,2}", end in "[a-d]{0,2}",
    ) {
        let ledger = memory_ledger();
        let fill = common::simulate(&ledger, |tx| {
            keys.iter().for_each(|key| tx.put_state("cc", key, Bytes::from_static(b"v")).unwrap());
        });
        common::commit(&ledger, &[fill]);
        let inside = |key: &&String| **key >= start && (end.is_empty() || **key < end);
        let expected: Vec<String> = keys.iter().filter(inside).cloned().collect();
        let (mut found, mut bookmark) = (Vec::new(), start.clone());
        loop {
            let mut tx = ledger.simulator();
            let cursor = tx.open_page("cc", &bookmark, &end, size).unwrap();
            let page = tx.next_batch(cursor, 1000).unwrap();
            prop_assert!(page.entries.len() <= size);
            found.extend(page.entries.into_iter().map(|entry| entry.key));
            if page.bookmark.is_empty() {
                break;
            }
            bookmark = page.bookmark;
        }
        prop_assert_eq!(found, expected);
    }
}
