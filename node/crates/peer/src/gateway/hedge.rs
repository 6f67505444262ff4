//! One call's way through nodes of which one is enough: whom to ask next, and when. A value that is
//! told what happened; the time is an input.
//!
//! The nodes are asked in the order given. The next one is asked when the one before fails, or when
//! its answer takes longer than its delay, if the second question is allowed ([`Step::Hedge`] asks
//! for leave). Those asked before may still answer. When all others have failed and one said that it
//! cannot *at the moment*, another round may help ([`Race::again`]).

use std::time::Duration;

use tokio::time::Instant;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask this one; say so with [`Race::asked`].
    Ask(usize),
    /// The first of these is late: ask the second one too, if that is allowed. Answer with
    /// [`Race::asked`] or [`Race::postponed`].
    Hedge {
        /// Who is late.
        late: usize,
        /// Who can be asked.
        next: usize,
    },
    /// Wait for an answer, until this time where there is one.
    Wait(Option<Instant>),
    /// All have failed.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Fresh,
    Asked(Instant),
    Failed,
    /// Not at the moment.
    Later,
}

/// The way through the nodes `0..count`.
#[derive(Debug, Clone)]
pub struct Race {
    order: Vec<usize>,
    runners: Vec<Runner>,
    /// Who was asked last, when it is late, and how late that is.
    last: Option<(usize, Instant, Duration)>,
}

impl Race {
    /// A race of the nodes in `order`, each an index below its length.
    #[must_use]
    pub fn new(order: Vec<usize>) -> Self {
        let runners = vec![Runner::Fresh; order.len()];
        Self { order, runners, last: None }
    }

    /// A node was asked, and is late after `delay`.
    pub fn asked(&mut self, node: usize, now: Instant, delay: Duration) {
        self.set(node, Runner::Asked(now));
        self.last = Some((node, now + delay, delay));
    }

    /// The second question is not allowed now.
    pub fn postponed(&mut self, now: Instant) {
        if let Some((_, late, delay)) = &mut self.last {
            *late = now + *delay;
        }
    }

    /// A node has failed; `later` when it may be able to at another time.
    pub fn failed(&mut self, node: usize, later: bool) {
        self.set(node, if later { Runner::Later } else { Runner::Failed });
    }

    fn set(&mut self, node: usize, runner: Runner) {
        if let Some(known) = self.runners.get_mut(node) {
            *known = runner;
        }
    }

    /// Begins another round, if one can help: all that failed may be asked again.
    pub fn again(&mut self) -> bool {
        let helps = self.runners.contains(&Runner::Later);
        for runner in self.runners.iter_mut().filter(|_| helps) {
            if matches!(runner, Runner::Later | Runner::Failed) {
                *runner = Runner::Fresh;
            }
        }
        helps
    }

    /// Those asked before `winner` that have not answered.
    pub fn overtaken_by(&self, winner: usize) -> impl Iterator<Item = usize> {
        let won = self.asked_at(winner);
        (0..self.runners.len()).filter(move |node| {
            let asked = self.asked_at(*node);
            asked.is_some_and(|asked| won.is_some_and(|won| asked < won))
        })
    }

    fn asked_at(&self, node: usize) -> Option<Instant> {
        match self.runners.get(node) {
            Some(Runner::Asked(at)) => Some(*at),
            _ => None,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self, now: Instant) -> Step {
        let fresh = |node: &usize| self.runners.get(*node) == Some(&Runner::Fresh);
        let next = self.order.iter().copied().find(fresh);
        let waits = self.runners.iter().any(|runner| matches!(runner, Runner::Asked(_)));
        // Whoever was asked last may have failed; those asked before are late already.
        let last = self.last.filter(|(node, ..)| self.asked_at(*node).is_some());
        match (next, last) {
            (None, _) if !waits => Step::Over,
            (Some(next), None) => Step::Ask(next),
            (_, Some((_, late, _))) if late > now => Step::Wait(Some(late)),
            (Some(next), Some((late, ..))) => Step::Hedge { late, next },
            // Others cannot at the moment, and the rest does not answer.
            (None, _) if self.runners.contains(&Runner::Later) => Step::Over,
            (None, _) => Step::Wait(None),
        }
    }
}
