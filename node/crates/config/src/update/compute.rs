//! The smallest update that turns one configuration into another.
//! Fabric: `internal/configtxlator/update/update.go`.

use std::collections::BTreeMap;

use weft_protos::common::{Config, ConfigGroup, ConfigPolicy, ConfigUpdate, ConfigValue};
use weft_types::ChannelId;

/// Why there is no update between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// One of them has no tree.
    #[error("failed to compute the update: the {which} configuration has no channel group")]
    NoChannelGroup {
        /// `current` or `changed`.
        which: &'static str,
    },
    /// They say the same.
    #[error("failed to compute the update: nothing differs")]
    NoDifference,
}

/// Computes the update that turns `current` into `changed`. Versions in `changed` do not count: they
/// follow from what differs. The result holds only what must be read or written.
///
/// # Errors
/// Fails where a tree is missing and where nothing differs.
pub fn compute(
    channel_id: &ChannelId,
    current: &Config,
    changed: &Config,
) -> Result<ConfigUpdate, ComputeError> {
    let tree = |config: &'_ Config, which| match &config.channel_group {
        Some(group) => Ok(group.clone()),
        None => Err(ComputeError::NoChannelGroup { which }),
    };
    let current = tree(current, "current")?;
    let changed = tree(changed, "changed")?;
    let difference = diff_groups(&current, &changed);
    let Some(write_set) = difference.written else { return Err(ComputeError::NoDifference) };
    Ok(ConfigUpdate {
        channel_id: channel_id.to_string(),
        read_set: Some(difference.read),
        write_set: Some(write_set),
        isolated_data: BTreeMap::new(),
    })
}

/// How two groups differ.
struct Difference {
    /// What the change relies on; where nothing differs, only the group's version.
    read: ConfigGroup,
    /// What is written; `None` where nothing differs.
    written: Option<ConfigGroup>,
}

/// How two maps of members differ.
struct Members<T> {
    read: BTreeMap<String, T>,
    written: BTreeMap<String, T>,
    /// Members that stay as they are, by version only: they are listed in both sets where the
    /// membership changes, as a group is written with all its members.
    same: BTreeMap<String, T>,
    membership_changed: bool,
}

impl<T> Members<T> {
    fn new() -> Self {
        let (read, written, same) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { read, written, same, membership_changed: false }
    }
}

fn diff_groups(current: &ConfigGroup, changed: &ConfigGroup) -> Difference {
    let mut values = diff_leaves(&current.values, &changed.values);
    let mut policies = diff_leaves(&current.policies, &changed.policies);
    let mut groups = diff_subgroups(&current.groups, &changed.groups);

    let own_change = values.membership_changed
        || policies.membership_changed
        || groups.membership_changed
        || current.mod_policy != changed.mod_policy;
    let nothing_written =
        values.written.is_empty() && policies.written.is_empty() && groups.written.is_empty();
    let read = ConfigGroup { version: current.version, ..Default::default() };
    if !own_change && nothing_written {
        return Difference { read, written: None };
    }
    let mut written = read.clone();
    if own_change {
        list_unchanged(&mut values);
        list_unchanged(&mut policies);
        list_unchanged(&mut groups);
        written.version = current.version + 1;
        written.mod_policy.clone_from(&changed.mod_policy);
    }
    Difference {
        read: ConfigGroup {
            values: values.read,
            policies: policies.read,
            groups: groups.read,
            ..read
        },
        written: Some(ConfigGroup {
            values: values.written,
            policies: policies.written,
            groups: groups.written,
            ..written
        }),
    }
}

fn list_unchanged<T: Clone>(members: &mut Members<T>) {
    let same = std::mem::take(&mut members.same);
    members.read.extend(same.clone());
    members.written.extend(same);
}

fn diff_subgroups(
    current: &BTreeMap<String, ConfigGroup>,
    changed: &BTreeMap<String, ConfigGroup>,
) -> Members<ConfigGroup> {
    let mut members = Members::new();
    members.membership_changed = current.keys().ne(changed.keys());
    for (name, old) in current {
        let Some(new) = changed.get(name) else { continue };
        let difference = diff_groups(old, new);
        match difference.written {
            None => {
                members.same.insert(name.clone(), difference.read);
            }
            Some(written) => {
                members.read.insert(name.clone(), difference.read);
                members.written.insert(name.clone(), written);
            }
        }
    }
    for (name, new) in changed.iter().filter(|(name, _)| !current.contains_key(*name)) {
        members.written.insert(name.clone(), as_new(new));
    }
    members
}

/// A group that did not exist: everything in it begins at version 0.
fn as_new(group: &ConfigGroup) -> ConfigGroup {
    let fresh = |groups: &BTreeMap<String, ConfigGroup>| {
        groups.iter().map(|(name, group)| (name.clone(), as_new(group))).collect()
    };
    ConfigGroup {
        version: 0,
        groups: fresh(&group.groups),
        values: diff_leaves(&BTreeMap::new(), &group.values).written,
        policies: diff_leaves(&BTreeMap::new(), &group.policies).written,
        mod_policy: group.mod_policy.clone(),
    }
}

/// A value or a policy.
trait Leaf: Clone {
    fn version(&self) -> u64;
    fn says_the_same(&self, other: &Self) -> bool;
    fn at_version(&self, version: u64) -> Self;
    fn only_version(&self) -> Self;
}

impl Leaf for ConfigValue {
    fn version(&self) -> u64 {
        self.version
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.mod_policy == other.mod_policy && self.value == other.value
    }

    fn at_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    fn only_version(&self) -> Self {
        Self { version: self.version, ..Self::default() }
    }
}

impl Leaf for ConfigPolicy {
    fn version(&self) -> u64 {
        self.version
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.mod_policy == other.mod_policy && self.policy == other.policy
    }

    fn at_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    fn only_version(&self) -> Self {
        Self { version: self.version, ..Self::default() }
    }
}

fn diff_leaves<T: Leaf>(
    current: &BTreeMap<String, T>,
    changed: &BTreeMap<String, T>,
) -> Members<T> {
    let mut members = Members::new();
    members.membership_changed = current.keys().ne(changed.keys());
    for (name, new) in changed {
        match current.get(name) {
            None => members.written.insert(name.clone(), new.at_version(0)),
            Some(old) if old.says_the_same(new) => {
                members.same.insert(name.clone(), old.only_version())
            }
            Some(old) => members.written.insert(name.clone(), new.at_version(old.version() + 1)),
        };
    }
    members
}
