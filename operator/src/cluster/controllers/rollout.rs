//! Which nodes of a group take their new template now. Pure.
//!
//! New nodes start together. A node that runs is changed by itself, when every other one serves
//! and has caught up, the leader last: when it ends, it hands its leadership over, and an
//! election of a whole group is never needed. A node that does not serve loses nothing by a new
//! template, which may be what mends it: it never waits.

/// A node as it is, against what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Whether it exists, and with which template.
    pub template: Template,
    /// Whether it serves.
    pub ready: bool,
    /// Whether it has the blocks that the others have, or nothing is known against it.
    pub caught_up: bool,
    /// Whether it leads a channel.
    pub leads: bool,
    /// Why it must not stop now, if it must not; for people.
    pub held: Option<String>,
}

/// The template of a node that exists, against the one that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// There is no such node yet.
    Missing,
    /// It has no pod, on purpose.
    Asleep,
    /// It is the one.
    Current,
    /// It is another one.
    Outdated,
}

/// What is done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Nodes that get their template now.
    pub apply: Vec<String>,
    /// Nodes that wait for their turn.
    pub waiting: Vec<String>,
    /// For whom they wait, and why; for people.
    pub because: Option<String>,
}

/// Decides what is done now.
pub fn decide(nodes: &[NodeState]) -> Rollout {
    let is_free = |node: &NodeState| node.template != Template::Outdated || !node.ready;
    let (free, rest): (Vec<&NodeState>, Vec<&NodeState>) =
        nodes.iter().partition(|node| is_free(node));
    let mut rollout = Rollout::default();
    rollout.apply.extend(free.iter().map(|node| node.name.clone()));
    let Some(next) = rest.iter().min_by_key(|node| node.leads) else { return rollout };
    let mut others = nodes.iter().filter(|node| node.name != next.name);
    let hindrance = |node: &NodeState| Some(format!("{} {}", node.name, hindrance(node)?));
    let hindrance = others.find_map(hindrance).or_else(|| next.held.clone());
    if hindrance.is_none() {
        rollout.apply.push(next.name.clone());
    }
    rollout.because = hindrance;
    let waits = |node: &&&NodeState| !rollout.apply.contains(&node.name);
    rollout.waiting = rest.iter().filter(waits).map(|node| node.name.clone()).collect();
    rollout
}

fn hindrance(node: &NodeState) -> Option<&'static str> {
    match (node.ready, node.caught_up) {
        (false, _) => Some("does not serve yet"),
        (_, false) => Some("has not caught up yet"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a!` outdated, `a-` not ready, `a~` behind, `a*` leads, `a?` missing, `a=` held.
    fn node(text: &str) -> NodeState {
        let has = |mark: char| text.contains(mark);
        NodeState {
            name: text.chars().filter(|c| c.is_alphanumeric()).collect(),
            template: match (has('?'), has('!')) {
                (true, _) => Template::Missing,
                (_, true) => Template::Outdated,
                _ => Template::Current,
            },
            ready: !has('-') && !has('?'),
            caught_up: !has('~'),
            leads: has('*'),
            held: has('=').then(|| "quorum".to_owned()),
        }
    }

    #[track_caller]
    fn check(nodes: &str, apply: &str, waiting: &str) {
        let nodes: Vec<NodeState> = nodes.split(' ').map(node).collect();
        let rollout = decide(&nodes);
        assert_eq!(rollout.apply.join(" "), apply);
        assert_eq!(rollout.waiting.join(" "), waiting);
    }

    #[test]
    fn new_nodes_start_together() {
        check("a? b? c?", "a b c", "");
        check("a b c?", "a b c", "");
    }

    #[test]
    fn a_change_goes_one_node_at_a_time_and_the_leader_is_last() {
        check("a!* b! c!", "b", "a c");
        check("a!* b- c!", "b", "a c");
        check("a!* b c!", "b c", "a");
        check("a!* b c", "b c a", "");
    }

    #[test]
    fn a_node_behind_or_down_holds_the_others_back() {
        check("a!* b~ c!", "b", "a c");
        check("a! b? c", "b c", "a");
        check("a!= b c", "b c", "a");
    }

    #[test]
    fn nodes_that_do_not_serve_are_mended_first() {
        check("a! b!- c!", "b", "a c");
        check("a!- b!- c", "a b c", "");
        check("a!- b!- c!-", "a b c", "");
    }
}
