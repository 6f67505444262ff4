//! Which endorsers to ask next: a value that is told what came back and says what to do.
//!
//! A layout asks for a number of endorsements of each of some groups, and a peer can belong to
//! several groups but counts once. The plan goes through the layouts in order. For one layout it
//! finds peers for all places, using first those that have endorsed or are being asked; what is
//! missing is asked all at once. When a peer fails, another one takes its place; when there is none,
//! the layout is given up. What was endorsed for one layout counts for the next.
//!
//! A peer that is late may still answer, but any other one is better: of the same layout, or of a
//! later one. When there is none, it is waited for.

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
    Late,
    Failed,
}

/// A plan.
#[derive(Debug, Clone)]
pub struct Plan {
    groups: Vec<Vec<PeerIndex>>,
    layouts: Vec<BTreeMap<usize, usize>>,
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
        Self { groups, layouts, peers: vec![PeerStatus::Untried; peers] }
    }

    /// A peer has endorsed.
    pub fn endorsed(&mut self, peer: PeerIndex) {
        self.set(peer, PeerStatus::Endorsed);
    }

    /// A peer has failed and is not asked again.
    pub fn failed(&mut self, peer: PeerIndex) {
        self.set(peer, PeerStatus::Failed);
    }

    /// A peer that was asked takes long.
    pub fn late(&mut self, peer: PeerIndex) {
        if self.status(peer) == PeerStatus::Asked {
            self.set(peer, PeerStatus::Late);
        }
    }

    /// Whether some peer that was not asked could take this one's place.
    #[must_use]
    pub fn has_other(&self, peer: PeerIndex) -> bool {
        let mut after = self.clone();
        after.late(peer);
        matches!(after.step(), Step::Ask(peers) if !peers.is_empty())
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
        let Some(chosen) = self.choose() else { return Step::Exhausted };
        let with = |status| {
            let chosen = chosen.iter().copied();
            chosen.filter(|peer| self.status(*peer) == status).collect::<Vec<_>>()
        };
        if with(PeerStatus::Endorsed).len() == chosen.len() {
            return Step::Done(chosen);
        }
        let untried = with(PeerStatus::Untried);
        for peer in &untried {
            self.set(*peer, PeerStatus::Asked);
        }
        Step::Ask(untried)
    }

    /// Peers for the first layout that needs none that are late, else for the first one.
    fn choose(&self) -> Option<Vec<PeerIndex>> {
        let with = |worst| self.layouts.iter().find_map(|layout| self.fill(layout, worst));
        with(PeerStatus::Untried).or_else(|| with(PeerStatus::Late))
    }

    /// Peers for all places of a layout, none worse than `limit`; `None` when there are not enough.
    fn fill(&self, layout: &BTreeMap<usize, usize>, limit: PeerStatus) -> Option<Vec<PeerIndex>> {
        let places: Vec<usize> =
            layout.iter().flat_map(|(group, count)| std::iter::repeat_n(*group, *count)).collect();
        let mut matching = Matching { plan: self, places: &places, taken: BTreeMap::new() };
        // A peer that has a place keeps one, so those that come first are used as far as they can.
        let worsts =
            [PeerStatus::Endorsed, PeerStatus::Asked, PeerStatus::Untried, PeerStatus::Late];
        for worst in worsts.into_iter().filter(|worst| *worst <= limit) {
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
