//! Which orderers join a channel, with which block. Pure.
//!
//! A channel begins where every orderer that the genesis block names joins with it. Later ones
//! join with the newest config block, follow until they have caught up, and become consenters
//! by a change of the config ([`super::consenters`]). A consenter that is found without the
//! channel once that has grown has lost its volume: it must not come back under its old id, so
//! it does not join before it was removed from the consenters.

use super::consenters::{Chain, Standing};
use super::observe::OrdererChannel;
use super::{Refused, Waiting};

/// A block to join with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// The genesis block.
    Genesis,
    /// The newest config block.
    Newest,
}

/// What follows for the orderers that have not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joins {
    /// These join; possibly none.
    Join(Vec<(String, With)>),
    /// Nobody does yet.
    Wait(Waiting),
    /// Nobody may.
    Refuse(Refused),
}

/// What is known of a channel's height beside what its orderers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The greatest height that was ever recorded, 0 for none.
    pub recorded: u64,
    /// The greatest height at a peer.
    pub at_peers: u64,
    /// Peers that should have the channel and do not say how far they are.
    pub silent_peers: &'a [String],
    /// Whether the channel is known never to have begun, so that no peer can know of a block.
    pub never_begun: bool,
}

impl Known<'_> {
    fn height(&self) -> u64 {
        self.recorded.max(self.at_peers)
    }

    /// Whether the orderers, who are at genesis height, have forgotten blocks. What peers have
    /// beyond a few blocks cannot have been made while the nodes were being asked.
    fn knows_better(&self) -> bool {
        self.recorded > 1 || self.at_peers > 1 + OrdererChannel::LAG
    }
}

/// Who joins. `listed` of the standings is by the newest config, or by the genesis block where no
/// orderer has the channel.
///
/// Nobody takes part in a channel with its genesis block, as one who has never voted, while an
/// orderer or a peer that is silent may know of blocks, or where it is known that there were any.
pub fn decide(orderers: &[Standing], known: Known<'_>) -> Joins {
    let heights = orderers.iter().filter_map(Standing::height);
    let Some(newest) = heights.max() else {
        return match silent(orderers, known) {
            // One of them may have the channel: it must not be begun a second time.
            Some(waiting) => Joins::Wait(waiting),
            None if known.height() > 1 => Joins::Refuse(lost("no orderer has it any more", known)),
            None => begin(orderers),
        };
    };
    if newest <= 1 && known.knows_better() {
        return match silent(orderers, Known { never_begun: true, ..known }) {
            Some(waiting) => Joins::Wait(waiting),
            None => Joins::Refuse(lost("its orderers have but the first", known)),
        };
    }
    Joins::Join(joins_of_running(orderers, newest, known))
}

/// Who does not say what it has of the channel.
fn silent(orderers: &[Standing], known: Known<'_>) -> Option<Waiting> {
    let of = |one: &&Standing| one.is_silent();
    let orderers: Vec<&str> = orderers.iter().filter(of).map(|one| one.name.as_str()).collect();
    let told = |names: &str| format!("no answer from {names} yet");
    if !orderers.is_empty() {
        return Some(Waiting::new("OrderersNotReady", told(&orderers.join(", "))));
    }
    let wait = !known.never_begun && known.height() <= 1 && !known.silent_peers.is_empty();
    wait.then(|| Waiting::new("PeersNotReady", told(&known.silent_peers.join(", "))))
}

fn lost(what: &str, known: Known<'_>) -> Refused {
    let message = format!(
        "{} blocks of the channel are known, and {what}; it is not begun anew: restore the volume \
         of an orderer",
        known.height()
    );
    Refused::new("LedgerLost", message)
}

fn begin(orderers: &[Standing]) -> Joins {
    let founders = orderers.iter().filter(|one| one.chain == Chain::Missing);
    let founders = founders.filter(|one| one.listed || one.wanted);
    Joins::Join(founders.map(|one| (one.name.clone(), With::Genesis)).collect())
}

fn joins_of_running(orderers: &[Standing], newest: u64, known: Known<'_>) -> Vec<(String, With)> {
    let grown = newest.max(known.height()) > 1;
    let new = !grown && silent(orderers, known).is_none();
    let missing = orderers.iter().filter(|one| one.chain == Chain::Missing);
    let joins = missing.filter_map(|one| match (one.listed, one.wanted) {
        (true, _) if new => Some((one.name.clone(), With::Genesis)),
        (true, _) => None,
        (false, true) => Some((one.name.clone(), With::Newest)),
        (false, false) => None,
    });
    joins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_config::Endpoint;

    fn standing(name: &str, listed: bool, wanted: bool, chain: Chain) -> Standing {
        let endpoint = Endpoint::new(name, 7050);
        let current_certificate = true;
        Standing { name: name.to_owned(), endpoint, wanted, listed, current_certificate, chain }
    }

    fn has(height: u64) -> Chain {
        Chain::Has(OrdererChannel {
            height,
            relation: "consenter".to_owned(),
            status: "active".to_owned(),
            term: 1,
            ..OrdererChannel::default()
        })
    }

    fn failed(height: u64) -> Chain {
        let Chain::Has(chain) = has(height) else { panic!("it has") };
        Chain::Has(OrdererChannel { status: "failed".to_owned(), ..chain })
    }

    fn recorded(height: u64) -> Known<'static> {
        Known { recorded: height, ..Known::default() }
    }

    fn names(joins: Joins) -> Vec<(String, With)> {
        match joins {
            Joins::Join(names) => names,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_channel_begins_with_all_that_the_genesis_block_names() {
        let all = [
            standing("a", true, true, Chain::Missing),
            standing("b", true, false, Chain::Missing),
            standing("c", false, true, Chain::Missing),
            standing("d", false, false, Chain::Missing),
        ];
        let expected: Vec<_> = ["a", "b", "c"].map(|n| (n.to_owned(), With::Genesis)).into();
        assert_eq!(names(decide(&all, recorded(0))), expected);
    }

    #[test]
    fn a_channel_is_not_begun_while_one_is_silent_or_blocks_are_known() {
        let silent =
            [standing("a", true, true, Chain::Missing), standing("b", true, true, Chain::Unknown)];
        assert!(matches!(decide(&silent, recorded(0)), Joins::Wait(_)));
        let lost = [standing("a", true, true, Chain::Missing)];
        assert!(matches!(
            decide(&lost, recorded(5)),
            Joins::Refuse(Refused { reason: "LedgerLost", .. })
        ));
    }

    #[test]
    fn the_rest_of_an_interrupted_beginning_joins() {
        let all = [standing("a", true, true, has(1)), standing("b", true, true, Chain::Missing)];
        assert_eq!(names(decide(&all, recorded(1))), [("b".to_owned(), With::Genesis)]);
    }

    #[test]
    fn newcomers_follow_and_a_lost_consenter_stays_out() {
        let all = [
            standing("a", true, true, has(9)),
            standing("b", true, true, Chain::Missing),
            standing("c", false, true, Chain::Missing),
            standing("d", false, false, Chain::Missing),
            standing("e", true, true, Chain::Unknown),
        ];
        assert_eq!(names(decide(&all, recorded(9))), [("c".to_owned(), With::Newest)]);
    }

    #[test]
    fn nobody_takes_itself_for_new_where_a_peer_or_a_record_knows_better() {
        // c has lost its volume, and the others, too, or they have been joined by hand.
        let all = [
            standing("a", true, true, has(1)),
            standing("b", true, true, has(1)),
            standing("c", true, true, Chain::Missing),
        ];
        let lost = |joins| matches!(joins, Joins::Refuse(Refused { reason: "LedgerLost", .. }));
        assert!(lost(decide(&all, recorded(2))));
        assert!(lost(decide(&all, Known { at_peers: 500, ..Known::default() })));
        // A block or two may have been made while the nodes were asked; c waits in any case.
        assert_eq!(names(decide(&all, Known { at_peers: 2, ..Known::default() })), []);
        assert_eq!(names(decide(&all, recorded(1))), [("c".to_owned(), With::Genesis)]);
        let silent_peers = ["p0".to_owned()];
        let silent = Known { recorded: 1, silent_peers: &silent_peers, ..Known::default() };
        assert_eq!(names(decide(&all, silent)), [], "a silent peer may know of blocks");
        let one_silent =
            [all[0].clone(), standing("b", true, true, Chain::Unknown), all[2].clone()];
        assert_eq!(names(decide(&one_silent, recorded(1))), []);
        assert!(matches!(decide(&one_silent, recorded(5)), Joins::Wait(_)));
    }

    #[test]
    fn a_channel_is_not_begun_before_its_peers_answer_unless_it_is_new() {
        let all = [standing("a", true, true, Chain::Missing)];
        let silent_peers = ["p0".to_owned()];
        let silent = Known { silent_peers: &silent_peers, ..Known::default() };
        assert!(
            matches!(decide(&all, silent), Joins::Wait(wait) if wait.reason == "PeersNotReady")
        );
        let new = Known { never_begun: true, ..silent };
        assert_eq!(names(decide(&all, new)), [("a".to_owned(), With::Genesis)]);
        let known = Known { at_peers: 9, ..Known::default() };
        assert!(matches!(decide(&all, known), Joins::Refuse(_)));
    }

    #[test]
    fn a_failed_orderer_has_the_channel_and_may_know_more_than_it_says() {
        let all = [standing("a", true, true, failed(0)), standing("b", true, true, Chain::Missing)];
        assert!(matches!(decide(&all, recorded(0)), Joins::Wait(_)));
        assert!(matches!(decide(&all, recorded(5)), Joins::Wait(_)));
        let all = [standing("a", true, true, failed(9)), standing("b", true, true, Chain::Missing)];
        assert_eq!(names(decide(&all, recorded(9))), []);
    }

    #[test]
    fn an_older_channel_of_that_name_neither_joins_nor_counts() {
        let old = || Chain::Foreign("abc".to_owned());
        let all = [standing("a", true, true, Chain::Missing), standing("b", true, true, old())];
        assert_eq!(names(decide(&all, recorded(0))), [("a".to_owned(), With::Genesis)]);
        let all = [standing("a", true, true, has(1)), standing("b", true, true, old())];
        assert_eq!(names(decide(&all, recorded(1))), []);
    }
}
