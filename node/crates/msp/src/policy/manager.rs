//! The policies of a channel configuration, as a tree of groups (Fabric:
//! common/policies/policy.go, `ManagerImpl`).

use std::{collections::BTreeMap, sync::Arc};

use weft_protos::common::{self, ConfigGroup};

use super::{CompileError, Policy, PolicyError, SignedData};
use crate::{identity::ValidAt, manager::MspManager};

/// The policies of a group and of the groups in it, as they stand in a configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyTree {
    /// Policies by name.
    pub policies: BTreeMap<String, common::Policy>,
    /// Subgroups by name.
    pub groups: BTreeMap<String, PolicyTree>,
}

impl From<&ConfigGroup> for PolicyTree {
    /// Takes the policies of a configuration group. An entry without a policy becomes one of type
    /// 0, which [`PolicyManager::new`] refuses.
    fn from(group: &ConfigGroup) -> Self {
        let policies = group
            .policies
            .iter()
            .map(|(name, entry)| (name.clone(), entry.policy.clone().unwrap_or_default()));
        let groups = group.groups.iter().map(|(name, group)| (name.clone(), Self::from(group)));
        Self { policies: policies.collect(), groups: groups.collect() }
    }
}

/// A policy of a tree cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to set up policy {path}")]
pub struct PolicyTreeError {
    /// The policy's path.
    pub path: String,
    /// What is wrong with it.
    #[source]
    pub source: CompileError,
}

/// The policies of a group and of the groups in it, ready to be evaluated.
#[derive(Debug)]
pub struct PolicyManager {
    path: String,
    policies: BTreeMap<String, Arc<Policy>>,
    groups: BTreeMap<String, PolicyManager>,
    msps: Arc<MspManager>,
}

impl PolicyManager {
    /// Sets up the policies of a whole configuration; `root` is the outermost group's name in
    /// paths, `Channel` for a channel. Identities are read by `msps`.
    ///
    /// # Errors
    /// [`PolicyTreeError`] naming the first policy that cannot be set up.
    pub fn new(
        root: &str,
        tree: &PolicyTree,
        msps: Arc<MspManager>,
    ) -> Result<Self, PolicyTreeError> {
        Self::of_group(format!("/{root}"), tree, &msps)
    }

    fn of_group(
        path: String,
        tree: &PolicyTree,
        msps: &Arc<MspManager>,
    ) -> Result<Self, PolicyTreeError> {
        let mut groups = BTreeMap::new();
        for (name, group) in &tree.groups {
            let group = Self::of_group(format!("{path}/{name}"), group, msps)?;
            groups.insert(name.clone(), group);
        }
        let children: Vec<_> = groups.iter().collect();
        let mut policies = BTreeMap::new();
        for (name, policy) in &tree.policies {
            let path = format!("{path}/{name}");
            let policy = Policy::of_config(&path, policy, &children, Arc::clone(msps))
                .map_err(|source| PolicyTreeError { path, source })?;
            policies.insert(name.clone(), Arc::new(policy));
        }
        Ok(Self { path, policies, groups, msps: Arc::clone(msps) })
    }

    /// The group's path, such as `/Channel/Application`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The MSPs that read the identities.
    #[must_use]
    pub fn msps(&self) -> &Arc<MspManager> {
        &self.msps
    }

    /// The policy at `path`: absolute (`/Channel/Application/Writers`), which must lie within this
    /// group, or relative to it (`Application/Writers`, `Writers`).
    ///
    /// # Errors
    /// [`PolicyError::Missing`] when there is none.
    pub fn get(&self, path: &str) -> Result<&Arc<Policy>, PolicyError> {
        self.find(path).ok_or_else(|| PolicyError::Missing { path: path.to_owned() })
    }

    fn find(&self, path: &str) -> Option<&Arc<Policy>> {
        let (group, name) = match self.relative(path)?.rsplit_once('/') {
            Some((groups, name)) => (self.descend(groups)?, name),
            None => (self, self.relative(path)?),
        };
        group.policies.get(name)
    }

    /// The manager of the group at `path`, absolute or relative as in [`Self::get`].
    #[must_use]
    pub fn group(&self, path: &str) -> Option<&Self> {
        if path == self.path {
            return Some(self);
        }
        self.descend(self.relative(path)?)
    }

    /// The policies of this very group, by name.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &Arc<Policy>)> {
        self.policies.iter().map(|(name, policy)| (name.as_str(), policy))
    }

    /// Checks that those who signed satisfy the policy at `path`: [`Policy::evaluate`].
    ///
    /// # Errors
    /// [`PolicyError`] when there is no such policy or it is not satisfied.
    pub fn evaluate(
        &self,
        path: &str,
        signatures: &[SignedData],
        at: impl Into<ValidAt>,
    ) -> Result<(), PolicyError> {
        self.get(path)?.evaluate(signatures, at)
    }

    fn relative<'a>(&self, path: &'a str) -> Option<&'a str> {
        if path.starts_with('/') {
            path.strip_prefix(self.path.as_str())?.strip_prefix('/')
        } else {
            Some(path)
        }
    }

    fn descend(&self, groups: &str) -> Option<&Self> {
        groups.split('/').try_fold(self, |group, name| group.groups.get(name))
    }
}
