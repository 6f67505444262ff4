//! Which orderers join a channel, with which block. Pure.
//!
//! A channel begins where every orderer that the genesis block names joins with it. Later ones
//! join with the newest config block, follow until they have caught up, and become consenters
//! by a change of the config ([`super::consenters`]). A consenter that is found without the
//! channel once that has grown has lost its volume: it must not come back under its old id, so
//! it does not join before it was removed from the consenters.

use super::consenters::{Chain, Standing};
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

/// Who joins. `height` is the greatest height that any node has or is known to have had.
/// `listed` of the standings is by the newest config, or by the genesis block where no orderer
/// has the channel.
pub fn decide(orderers: &[Standing], height: u64) -> Joins {
    let has = |one: &Standing| matches!(one.chain, Chain::Has(_));
    if orderers.iter().any(has) {
        return Joins::Join(joins_of_running(orderers, height));
    }
    let silent: Vec<&str> = orderers
        .iter()
        .filter(|one| one.chain == Chain::Unknown)
        .map(|one| one.name.as_str())
        .collect();
    if !silent.is_empty() {
        // One of them may have the channel: it must not be begun a second time.
        let message = format!("no answer from {} yet", silent.join(", "));
        return Joins::Wait(Waiting::new("OrderersNotReady", message));
    }
    if height > 1 {
        let message = format!(
            "no orderer has the channel any more, of which {height} blocks are known; it is not \
             begun anew: restore the volume of an orderer"
        );
        return Joins::Refuse(Refused::new("LedgerLost", message));
    }
    let founders = orderers.iter().filter(|one| one.listed || one.wanted);
    Joins::Join(founders.map(|one| (one.name.clone(), With::Genesis)).collect())
}

fn joins_of_running(orderers: &[Standing], height: u64) -> Vec<(String, With)> {
    let missing = orderers.iter().filter(|one| one.chain == Chain::Missing);
    let joins = missing.filter_map(|one| match (one.listed, one.wanted) {
        (true, _) if height <= 1 => Some((one.name.clone(), With::Genesis)),
        (true, _) => None,
        (false, true) => Some((one.name.clone(), With::Newest)),
        (false, false) => None,
    });
    joins.collect()
}

#[cfg(test)]
mod tests {
    use super::super::observe::OrdererChannel;
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
            is_leader: false,
            role: None,
            term: 1,
        })
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
        assert_eq!(names(decide(&all, 0)), expected);
    }

    #[test]
    fn a_channel_is_not_begun_while_one_is_silent_or_blocks_are_known() {
        let silent =
            [standing("a", true, true, Chain::Missing), standing("b", true, true, Chain::Unknown)];
        assert!(matches!(decide(&silent, 0), Joins::Wait(_)));
        let lost = [standing("a", true, true, Chain::Missing)];
        assert!(matches!(decide(&lost, 5), Joins::Refuse(Refused { reason: "LedgerLost", .. })));
    }

    #[test]
    fn the_rest_of_an_interrupted_beginning_joins() {
        let all = [standing("a", true, true, has(1)), standing("b", true, true, Chain::Missing)];
        assert_eq!(names(decide(&all, 1)), [("b".to_owned(), With::Genesis)]);
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
        assert_eq!(names(decide(&all, 9)), [("c".to_owned(), With::Newest)]);
    }
}
