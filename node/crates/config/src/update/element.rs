//! The tree seen as a flat map of elements, which is how updates are checked.

use std::{collections::BTreeMap, fmt};

use weft_protos::common::{ConfigGroup, ConfigPolicy, ConfigValue};

use crate::keys;

/// Longest name of a group, value or policy, in bytes. Fabric: `common/configtx/validator.go`.
const MAX_NAME: usize = 249;

/// What kind of element stands at a path. One path may hold one of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementKind {
    /// A group: its membership and its mod_policy, not what its members hold.
    Group,
    /// A value.
    Value,
    /// A policy.
    Policy,
}

/// Where an element stands, such as `[Value] /Channel/Orderer/BatchSize`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementPath {
    /// What kind of element it is.
    pub kind: ElementKind,
    /// Its absolute path.
    pub path: String,
}

impl fmt::Display for ElementPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ElementKind::Group => "Group",
            ElementKind::Value => "Value",
            ElementKind::Policy => "Policy",
        };
        write!(f, "[{kind}] {}", self.path)
    }
}

/// A name that no element may have, or a mod_policy that no element may carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name is empty, too long, `.`, `..`, or has characters other than letters, digits, `.`, `-`.
    #[error("failed to accept the name {name:?} below {group}")]
    Name {
        /// The name, cut to a readable length.
        name: String,
        /// Path of the group it stands in.
        group: String,
    },
    /// A mod_policy is empty or holds a name that is not allowed.
    #[error("failed to accept the mod_policy {policy:?} of {element}")]
    ModPolicy {
        /// The element.
        element: ElementPath,
        /// The mod_policy, cut to a readable length.
        policy: String,
    },
}

/// An element of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Element<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

impl Element<'_> {
    pub(crate) fn version(self) -> u64 {
        match self {
            Self::Group(group) => group.version,
            Self::Value(value) => value.version,
            Self::Policy(policy) => policy.version,
        }
    }

    pub(crate) fn mod_policy(&self) -> &str {
        match self {
            Self::Group(group) => &group.mod_policy,
            Self::Value(value) => &value.mod_policy,
            Self::Policy(policy) => &policy.mod_policy,
        }
    }
}

pub(crate) type Elements<'a> = BTreeMap<ElementPath, Element<'a>>;

/// Every element of the tree below and including `root`. Depth is bounded by the decoder.
pub(crate) fn flatten(root: Option<&ConfigGroup>) -> Result<Elements<'_>, PathError> {
    let mut elements = Elements::new();
    if let Some(root) = root {
        walk(&mut elements, format!("/{}", keys::CHANNEL), root)?;
    }
    Ok(elements)
}

/// Checks the names of every element of a tree.
pub(crate) fn check_names(root: &ConfigGroup) -> Result<(), PathError> {
    flatten(Some(root)).map(|_| ())
}

fn walk<'a>(
    elements: &mut Elements<'a>,
    path: String,
    group: &'a ConfigGroup,
) -> Result<(), PathError> {
    let mut put = |kind, name: &str, element| {
        if !is_name(name) {
            return Err(PathError::Name { name: shorten(name), group: path.clone() });
        }
        let at = ElementPath { kind, path: format!("{path}/{name}") };
        elements.insert(at, element);
        Ok(())
    };
    for (name, value) in &group.values {
        put(ElementKind::Value, name, Element::Value(value))?;
    }
    for (name, policy) in &group.policies {
        put(ElementKind::Policy, name, Element::Policy(policy))?;
    }
    for (name, child) in &group.groups {
        if !is_name(name) {
            return Err(PathError::Name { name: shorten(name), group: path });
        }
        walk(elements, format!("{path}/{name}"), child)?;
    }
    elements.insert(ElementPath { kind: ElementKind::Group, path }, Element::Group(group));
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

/// Checks that a mod_policy can name a policy. Fabric: `validateModPolicy` in
/// `common/configtx/update.go`.
pub(crate) fn check_mod_policy(at: &ElementPath, policy: &str) -> Result<(), PathError> {
    let relative = policy.strip_prefix('/').unwrap_or(policy);
    match relative.split('/').all(is_name) {
        true => Ok(()),
        false => Err(PathError::ModPolicy { element: at.clone(), policy: shorten(policy) }),
    }
}

/// Absolute path of the policy that governs changes of an element: a mod_policy without a leading
/// slash is relative to the group itself, or to the group the value or policy stands in.
pub(crate) fn governing_policy(at: &ElementPath, mod_policy: &str) -> String {
    if mod_policy.starts_with('/') {
        return mod_policy.to_owned();
    }
    let group = match at.kind {
        ElementKind::Group => at.path.as_str(),
        ElementKind::Value | ElementKind::Policy => {
            at.path.rsplit_once('/').map_or("", |(group, _)| group)
        }
    };
    format!("{group}/{mod_policy}")
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
