//! Collections of private data on a ledger in memory.

use std::collections::BTreeSet;

/// Every contract has such a collection for every organization.
const IMPLICIT: &str = "_implicit_org_";

/// A collection of private data, as a contract's definition would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockCollection {
    pub(super) name: String,
    members: BTreeSet<String>,
    member_only_read: bool,
    member_only_write: bool,
}

impl MockCollection {
    /// A collection whose values the peers of these organizations have, by MSP id. Clients of any
    /// organization may read and write.
    pub fn new<M: Into<String>>(
        name: impl Into<String>,
        members: impl IntoIterator<Item = M>,
    ) -> Self {
        Self {
            name: name.into(),
            members: members.into_iter().map(Into::into).collect(),
            member_only_read: false,
            member_only_write: false,
        }
    }

    /// Only clients of members may read.
    #[must_use]
    pub fn member_only_read(self) -> Self {
        Self { member_only_read: true, ..self }
    }

    /// Only clients of members may write.
    #[must_use]
    pub fn member_only_write(self) -> Self {
        Self { member_only_write: true, ..self }
    }

    /// The collection that an organization has of itself, where the name is that of one.
    pub(super) fn implicit(name: &str) -> Option<Self> {
        let msp_id = name.strip_prefix(IMPLICIT).filter(|msp_id| !msp_id.is_empty())?;
        Some(Self::new(name, [msp_id]))
    }

    pub(super) fn has(&self, msp_id: &str) -> bool {
        self.members.contains(msp_id)
    }

    pub(super) fn may_read(&self, client: &str) -> bool {
        !self.member_only_read || self.has(client)
    }

    pub(super) fn may_write(&self, client: &str) -> bool {
        !self.member_only_write || self.has(client)
    }
}
