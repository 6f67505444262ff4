//! The kinds that the server has.

/// A kind as the API server serves it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// Plural, as in paths.
    pub resource: &'static str,
    /// Name in CamelCase.
    pub name: &'static str,
    /// Whether the status is written apart from the rest.
    pub status: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
}

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    resource: &'static str,
    name: &'static str,
) -> Kind {
    Kind { group, versions, resource, name, status: false, generation: false }
}

const fn with_status(kind: Kind) -> Kind {
    Kind { status: true, ..kind }
}

const fn with_spec(kind: Kind) -> Kind {
    Kind { status: true, generation: true, ..kind }
}

/// All of them. PodDisruptionBudgets are served in both versions; tests choose by discovery.
pub const KINDS: &[Kind] = &[
    kind("", &["v1"], "configmaps", "ConfigMap"),
    kind("", &["v1"], "secrets", "Secret"),
    with_status(kind("", &["v1"], "services", "Service")),
    with_status(kind("", &["v1"], "persistentvolumeclaims", "PersistentVolumeClaim")),
    with_status(kind("", &["v1"], "pods", "Pod")),
    with_spec(kind("apps", &["v1"], "statefulsets", "StatefulSet")),
    with_spec(kind("apps", &["v1"], "deployments", "Deployment")),
    Kind {
        generation: true,
        ..kind("networking.k8s.io", &["v1"], "networkpolicies", "NetworkPolicy")
    },
    with_spec(kind("policy", &["v1", "v1beta1"], "poddisruptionbudgets", "PodDisruptionBudget")),
    kind("coordination.k8s.io", &["v1"], "leases", "Lease"),
    kind("events.k8s.io", &["v1"], "events", "Event"),
    with_spec(kind("weft.dev", &["v1alpha1"], "ledgernetworks", "LedgerNetwork")),
    with_spec(kind("weft.dev", &["v1alpha1"], "organizations", "Organization")),
    with_spec(kind("weft.dev", &["v1alpha1"], "channels", "Channel")),
    with_spec(kind("weft.dev", &["v1alpha1"], "chaincodes", "Chaincode")),
];

/// The kind of a path.
pub fn by_path(group: &str, version: &str, resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| {
        kind.group == group && kind.resource == resource && kind.versions.contains(&version)
    })
}

/// The kind of that name.
pub fn by_name(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}
