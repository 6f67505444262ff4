//! Reading the values of one group, with errors that name the path.

use weft_protos::{common::ConfigGroup, ext::decode};

use crate::bundle::ConfigError;

/// A group with the path that leads to it, such as `/Channel/Orderer`.
pub(crate) struct GroupReader<'a> {
    pub(crate) path: String,
    pub(crate) group: &'a ConfigGroup,
}

impl<'a> GroupReader<'a> {
    pub(crate) fn root(name: &str, group: &'a ConfigGroup) -> Self {
        Self { path: format!("/{name}"), group }
    }

    /// The subgroup `name`, which the caller got from this group's map.
    pub(crate) fn child(&self, name: &str, group: &'a ConfigGroup) -> Self {
        Self { path: self.path_of(name), group }
    }

    /// Path of an element of this group.
    pub(crate) fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The value `key` as a message; `None` where the group does not have it.
    pub(crate) fn value<M: prost::Message + Default>(
        &self,
        key: &'static str,
    ) -> Result<Option<M>, ConfigError> {
        let Some(value) = self.group.values.get(key) else { return Ok(None) };
        decode(key, value.value.clone())
            .map(Some)
            .map_err(|source| ConfigError::Decode { path: self.path_of(key), source })
    }

    /// The value `key`, or the message's default. Fabric reads an absent value so.
    pub(crate) fn value_or_default<M: prost::Message + Default>(
        &self,
        key: &'static str,
    ) -> Result<M, ConfigError> {
        Ok(self.value(key)?.unwrap_or_default())
    }

    /// Refuses values other than `known`. Fabric: `common/channelconfig/standardvalues.go`.
    pub(crate) fn only_values(&self, known: &[&str]) -> Result<(), ConfigError> {
        match self.group.values.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ConfigError::UnexpectedValue { path: self.path_of(key) }),
            None => Ok(()),
        }
    }

    /// Refuses subgroups.
    pub(crate) fn no_groups(&self) -> Result<(), ConfigError> {
        match self.group.groups.keys().next() {
            Some(name) => Err(ConfigError::UnexpectedGroup { path: self.path_of(name) }),
            None => Ok(()),
        }
    }
}
