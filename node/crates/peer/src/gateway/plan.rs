//! Which endorsers to ask next: a value that is told what came back and says what to do.
//!
//! A layout asks for a number of endorsements of each of some groups, and a peer can belong to
//! several groups but counts once. The plan goes through the layouts in order. For one layout it
//! finds peers for all places, using first those that have endorsed or are being asked; what is
//! missing is asked all at once. When a peer fails, another one takes its place; when there is none,
//! the layout is given up. What was endorsed for one layout counts for the next.

use std::collections::BTreeMap;

/// A peer, by its index in the list that the plan was made of.
pub type PeerIndex = usize;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask these too, and wait for any answer.
    Ask(Vec<PeerIndex>),
    /// The endorsements of these are enough.
    Done(Vec<PeerIndex>),
    /// Nothing that is left could be enough.
    Exhausted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PeerStatus {
    Endorsed,
    Asked,
    Untried,
    Failed,
}

/// A plan.
#[derive(Debug, Clone)]
pub struct Plan {
    groups: Vec<Vec<PeerIndex>>,
    layouts: Vec<BTreeMap<usize, usize>>,
    current: usize,
    peers: Vec<PeerStatus>,
}

impl Plan {
    /// A plan over `peers` peers. Each group lists its peers, preferred ones first; each layout says
    /// how many of which groups are enough, preferred layouts first.
    #[must_use]
    pub fn new(
        peers: usize,
        groups: Vec<Vec<PeerIndex>>,
        layouts: Vec<BTreeMap<usize, usize>>,
    ) -> Self {
        Self { groups, layouts, current: 0, peers: vec![PeerStatus::Untried; peers] }
    }

    /// A peer has endorsed.
    pub fn endorsed(&mut self, peer: PeerIndex) {
        self.set(peer, PeerStatus::Endorsed);
    }

    /// A peer has failed and is not asked again.
    pub fn failed(&mut self, peer: PeerIndex) {
        self.set(peer, PeerStatus::Failed);
    }

    fn set(&mut self, peer: PeerIndex, status: PeerStatus) {
        if let Some(known) = self.peers.get_mut(peer) {
            *known = status;
        }
    }

    fn status(&self, peer: PeerIndex) -> PeerStatus {
        self.peers.get(peer).copied().unwrap_or(PeerStatus::Failed)
    }

    /// What to do now. Peers that are to be asked count as asked from here on.
    pub fn step(&mut self) -> Step {
        while let Some(layout) = self.layouts.get(self.current) {
            let Some(chosen) = self.fill(layout) else {
                self.current += 1;
                continue;
            };
            let with = |status| {
                let chosen = chosen.iter().copied();
                chosen.filter(|peer| self.status(*peer) == status).collect::<Vec<_>>()
            };
            let untried = with(PeerStatus::Untried);
            if untried.is_empty() && with(PeerStatus::Asked).is_empty() {
                return Step::Done(chosen);
            }
            for peer in &untried {
                self.set(*peer, PeerStatus::Asked);
            }
            return Step::Ask(untried);
        }
        Step::Exhausted
    }

    /// Peers for all places of a layout; `None` when there are not enough.
    fn fill(&self, layout: &BTreeMap<usize, usize>) -> Option<Vec<PeerIndex>> {
        let places: Vec<usize> =
            layout.iter().flat_map(|(group, count)| std::iter::repeat_n(*group, *count)).collect();
        let mut matching = Matching { plan: self, places: &places, taken: BTreeMap::new() };
        // A peer that has a place keeps one, so those that come first are used as far as they can.
        for worst in [PeerStatus::Endorsed, PeerStatus::Asked, PeerStatus::Untried] {
            for place in 0..places.len() {
                if !matching.taken.values().any(|taken| *taken == place) {
                    matching.find(place, worst, &mut vec![false; self.peers.len()]);
                }
            }
        }
        let complete = matching.taken.len() == places.len();
        complete.then(|| matching.taken.into_keys().collect())
    }
}

/// Gives peers to places, each peer to one (Kuhn's algorithm).
struct Matching<'a> {
    plan: &'a Plan,
    places: &'a [usize],
    taken: BTreeMap<PeerIndex, usize>,
}

impl Matching<'_> {
    /// Finds a peer for a place, moving others to other places where that helps.
    fn find(&mut self, place: usize, worst: PeerStatus, seen: &mut [bool]) -> bool {
        let plan = self.plan;
        let group = self.places.get(place).and_then(|group| plan.groups.get(*group));
        for peer in group.into_iter().flatten().copied() {
            if plan.status(peer) > worst || seen.get(peer).copied().unwrap_or(true) {
                continue;
            }
            if let Some(seen) = seen.get_mut(peer) {
                *seen = true;
            }
            let free = match self.taken.get(&peer).copied() {
                None => true,
                Some(other) => self.find(other, worst, seen),
            };
            if free {
                self.taken.insert(peer, place);
                return true;
            }
        }
        false
    }
}
