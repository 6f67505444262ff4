//! Security contexts of every pod that the operator makes: the `restricted` profile of the Pod
//! Security Standards, and beyond it a read-only root file system and no service account token.

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

/// The user and group that the images are made for. It owns the volume's files.
pub const USER: i64 = 65532;

/// Of a pod. Files of volumes are given to the group only when the volume's root is not its
/// already, because the walk over a large ledger takes long.
pub fn pod() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Of each container.
pub fn container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}
