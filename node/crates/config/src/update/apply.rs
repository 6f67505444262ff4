//! Checking an update against the configuration it is for, and carrying it out.
//! Fabric: `common/configtx/update.go`, `configmap.go`.

use weft_msp::policy::SignedData;
use weft_msp::{ValidAt, policy::PolicyManager};
use weft_protos::common::{Config, ConfigGroup, ConfigUpdate};

use super::{
    UpdateError,
    element::{
        Element, ElementKind, ElementPath, Elements, check_mod_policy, flatten, governing_policy,
    },
};
use crate::keys;

/// Given to elements without a mod_policy, which tools of the first release made: without one an
/// element could never be changed again. Fabric: `common/configtx/configmap.go`.
const MISSING_MOD_POLICY: &str = keys::ADMINS;

/// Which elements an update adds or changes.
pub(crate) struct Delta<'a> {
    elements: Elements<'a>,
}

impl<'a> Delta<'a> {
    /// Checks the read set and collects what the write set changes.
    pub(crate) fn of(
        current: &Elements<'_>,
        update: &'a ConfigUpdate,
    ) -> Result<Self, UpdateError> {
        let set_error = |set| move |source| UpdateError::Path { set, source };
        let read = flatten(update.read_set.as_ref()).map_err(set_error("read"))?;
        for (path, element) in &read {
            let current = current.get(path).map(|element| element.version());
            if current != Some(element.version()) {
                let (path, expected) = (path.clone(), element.version());
                return Err(UpdateError::ReadVersion { path, expected, current });
            }
        }
        let mut elements = flatten(update.write_set.as_ref()).map_err(set_error("write"))?;
        elements.retain(|path, element| {
            read.get(path).is_none_or(|read| read.version() != element.version())
        });
        match elements.is_empty() {
            true => Err(UpdateError::NoChange),
            false => Ok(Self { elements }),
        }
    }

    /// Checks versions, and that the signers may change each element.
    pub(crate) fn authorize(
        &self,
        current: &Elements<'_>,
        policies: &PolicyManager,
        signatures: &[SignedData],
        at: ValidAt,
    ) -> Result<(), UpdateError> {
        // An element's verdict depends on nothing but its policy, and most share one.
        let mut satisfied = std::collections::BTreeSet::new();
        for (path, element) in &self.elements {
            check_mod_policy(path, element.mod_policy())
                .map_err(|source| UpdateError::Path { set: "write", source })?;
            let existing = current.get(path);
            check_version(path, *element, existing.copied())?;
            let Some(existing) = existing else { continue };
            let policy_path = governing_policy(path, existing.mod_policy());
            if !satisfied.contains(&policy_path) {
                check_policy(path, &policy_path, policies, signatures, at)?;
                satisfied.insert(policy_path);
            }
        }
        Ok(())
    }

    /// The configuration tree after the update.
    pub(crate) fn apply(&self, current: &Elements<'_>) -> Result<ConfigGroup, UpdateError> {
        let mut merged = current.clone();
        for (path, element) in &self.elements {
            merged.insert(path.clone(), *element);
        }
        let capabilities = ElementPath {
            kind: ElementKind::Value,
            path: format!("/{}/{}/{}", keys::CHANNEL, keys::ORDERER, keys::CAPABILITIES),
        };
        let fill = merged.contains_key(&capabilities);
        Builder { merged: &merged, fill_mod_policies: fill }.group(format!("/{}", keys::CHANNEL))
    }

    /// An element of this update that the tree after it does not contain, because the group that
    /// should list it was not changed.
    pub(crate) fn lost_in(&self, result: &ConfigGroup) -> Result<Option<ElementPath>, UpdateError> {
        let result =
            flatten(Some(result)).map_err(|source| UpdateError::Path { set: "write", source })?;
        Ok(self.elements.keys().find(|path| !result.contains_key(*path)).cloned())
    }
}

fn check_version(
    path: &ElementPath,
    element: Element<'_>,
    existing: Option<Element<'_>>,
) -> Result<(), UpdateError> {
    let required = match existing {
        None => Some(0),
        Some(existing) => existing.version().checked_add(1),
    };
    if required == Some(element.version()) {
        return Ok(());
    }
    Err(UpdateError::WriteVersion {
        path: path.clone(),
        written: element.version(),
        current: existing.map(|existing| existing.version()),
    })
}

fn check_policy(
    path: &ElementPath,
    policy_path: &str,
    policies: &PolicyManager,
    signatures: &[SignedData],
    at: ValidAt,
) -> Result<(), UpdateError> {
    let refused = |source| UpdateError::Refused {
        path: path.clone(),
        policy: policy_path.to_owned(),
        source: Box::new(source),
    };
    let policy = policies.get(policy_path).map_err(refused)?;
    policy.evaluate(signatures, at).map_err(refused)
}

/// Rebuilds a tree from its elements: every group lists its members, whose content is looked up.
struct Builder<'a> {
    merged: &'a Elements<'a>,
    fill_mod_policies: bool,
}

impl Builder<'_> {
    fn group(&self, path: String) -> Result<ConfigGroup, UpdateError> {
        let Some(Element::Group(listed)) = self.element(ElementKind::Group, &path) else {
            return Err(UpdateError::Missing { path: at(ElementKind::Group, path) });
        };
        let mut group = ConfigGroup {
            version: listed.version,
            mod_policy: self.mod_policy(&listed.mod_policy),
            ..ConfigGroup::default()
        };
        for name in listed.groups.keys() {
            group.groups.insert(name.clone(), self.group(format!("{path}/{name}"))?);
        }
        for name in listed.values.keys() {
            let path = format!("{path}/{name}");
            let Some(Element::Value(value)) = self.element(ElementKind::Value, &path) else {
                return Err(UpdateError::Missing { path: at(ElementKind::Value, path) });
            };
            let mut value = value.clone();
            value.mod_policy = self.mod_policy(&value.mod_policy);
            group.values.insert(name.clone(), value);
        }
        for name in listed.policies.keys() {
            let path = format!("{path}/{name}");
            let Some(Element::Policy(policy)) = self.element(ElementKind::Policy, &path) else {
                return Err(UpdateError::Missing { path: at(ElementKind::Policy, path) });
            };
            let mut policy = policy.clone();
            policy.mod_policy = self.mod_policy(&policy.mod_policy);
            group.policies.insert(name.clone(), policy);
        }
        Ok(group)
    }

    fn element(&self, kind: ElementKind, path: &str) -> Option<Element<'_>> {
        self.merged.get(&ElementPath { kind, path: path.to_owned() }).copied()
    }

    fn mod_policy(&self, own: &str) -> String {
        match self.fill_mod_policies && own.is_empty() {
            true => MISSING_MOD_POLICY.to_owned(),
            false => own.to_owned(),
        }
    }
}

fn at(kind: ElementKind, path: String) -> ElementPath {
    ElementPath { kind, path }
}

/// The elements of a configuration.
pub(crate) fn elements(config: &Config) -> Result<Elements<'_>, UpdateError> {
    flatten(config.channel_group.as_ref())
        .map_err(|source| UpdateError::Path { set: "current", source })
}
