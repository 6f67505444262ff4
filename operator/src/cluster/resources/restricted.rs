//! The `restricted` profile of the Pod Security Standards, and `baseline`, which it includes, as
//! a check of a pod before any API server sees it
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
//!
//! It is as strict for pods of Windows and of user namespaces as for others: the exceptions
//! that the standard makes for these are not needed here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, ContainerPort, EphemeralContainer, Lifecycle,
    LifecycleHandler, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SELinuxOptions,
    SeccompProfile, SecurityContext, Volume, WindowsSecurityContextOptions,
};

/// Sysctls that reach no further than the pod.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];
/// Types of SELinux that confine a container.
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// The one capability that may be added.
const BIND_SERVICE: &str = "NET_BIND_SERVICE";
/// Annotation of a pod that names the AppArmor profile of a container, before it was a field.
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Every rule that the pod breaks, each with the field; empty when it passes.
pub fn violations(pod: &PodSpec) -> Vec<String> {
    let mut check = Check { found: Vec::new() };
    check.host_namespaces(pod);
    let context = pod.security_context.clone().unwrap_or_default();
    check.pod_context(&context);
    for volume in pod.volumes.iter().flatten() {
        check.volume(volume);
    }
    for container in containers(pod) {
        check.container(&container, &context);
    }
    check.found
}

/// As [`violations`], and the annotations of the pod as well.
pub fn template_violations(template: &PodTemplateSpec) -> Vec<String> {
    let mut check = Check { found: Vec::new() };
    let metadata = template.metadata.clone().unwrap_or_default();
    check.annotations(&metadata.annotations.unwrap_or_default());
    match &template.spec {
        Some(spec) => check.found.extend(violations(spec)),
        None => check.broken("spec", "there is none"),
    }
    check.found
}

/// What the three types of containers have in common.
struct AnyContainer<'a> {
    field: String,
    context: SecurityContext,
    ports: &'a [ContainerPort],
    probes: [(&'static str, Option<&'a Probe>); 3],
    lifecycle: Option<&'a Lifecycle>,
}

fn containers(pod: &PodSpec) -> Vec<AnyContainer<'_>> {
    let ordinary = pod.containers.iter().map(|one| ordinary("containers", one));
    let init =
        pod.init_containers.iter().flatten().map(|one| self::ordinary("initContainers", one));
    let ephemeral = pod.ephemeral_containers.iter().flatten().map(ephemeral);
    ordinary.chain(init).chain(ephemeral).collect()
}

fn ordinary<'a>(list: &str, container: &'a Container) -> AnyContainer<'a> {
    AnyContainer {
        field: format!("{list}[{}]", container.name),
        context: container.security_context.clone().unwrap_or_default(),
        ports: container.ports.as_deref().unwrap_or_default(),
        probes: [
            ("startupProbe", container.startup_probe.as_ref()),
            ("readinessProbe", container.readiness_probe.as_ref()),
            ("livenessProbe", container.liveness_probe.as_ref()),
        ],
        lifecycle: container.lifecycle.as_ref(),
    }
}

fn ephemeral(container: &EphemeralContainer) -> AnyContainer<'_> {
    AnyContainer {
        field: format!("ephemeralContainers[{}]", container.name),
        context: container.security_context.clone().unwrap_or_default(),
        ports: container.ports.as_deref().unwrap_or_default(),
        probes: [
            ("startupProbe", container.startup_probe.as_ref()),
            ("readinessProbe", container.readiness_probe.as_ref()),
            ("livenessProbe", container.liveness_probe.as_ref()),
        ],
        lifecycle: container.lifecycle.as_ref(),
    }
}

struct Check {
    found: Vec<String>,
}

impl Check {
    fn broken(&mut self, field: &str, rule: &str) {
        self.found.push(format!("{field}: {rule}"));
    }

    fn require(&mut self, holds: bool, field: &str, rule: &str) {
        if !holds {
            self.broken(field, rule);
        }
    }

    fn host_namespaces(&mut self, pod: &PodSpec) {
        for (field, value) in [
            ("hostNetwork", pod.host_network),
            ("hostPID", pod.host_pid),
            ("hostIPC", pod.host_ipc),
        ] {
            self.require(value != Some(true), field, "must not be true");
        }
    }

    fn pod_context(&mut self, context: &PodSecurityContext) {
        let field = |name: &str| format!("securityContext.{name}");
        self.user(&field("runAsUser"), context.run_as_user);
        self.se_linux(&field("seLinuxOptions"), context.se_linux_options.as_ref());
        self.app_armor(&field("appArmorProfile"), context.app_armor_profile.as_ref());
        self.windows(&field("windowsOptions"), context.windows_options.as_ref());
        for sysctl in context.sysctls.iter().flatten() {
            let safe = SAFE_SYSCTLS.contains(&sysctl.name.as_str());
            self.require(safe, &field("sysctls"), &format!("{} is not a safe one", sysctl.name));
        }
    }

    fn container(&mut self, container: &AnyContainer<'_>, pod: &PodSecurityContext) {
        let context = &container.context;
        let field = |name: &str| format!("{}.securityContext.{name}", container.field);
        self.require(context.privileged != Some(true), &field("privileged"), "must not be true");
        self.require(
            context.allow_privilege_escalation == Some(false),
            &field("allowPrivilegeEscalation"),
            "must be false",
        );
        self.require(
            context.run_as_non_root.or(pod.run_as_non_root) == Some(true),
            &field("runAsNonRoot"),
            "must be true, here or for the pod",
        );
        self.require(
            matches!(context.proc_mount.as_deref(), None | Some("" | "Default")),
            &field("procMount"),
            "must be Default",
        );
        self.user(&field("runAsUser"), context.run_as_user);
        self.se_linux(&field("seLinuxOptions"), context.se_linux_options.as_ref());
        self.app_armor(&field("appArmorProfile"), context.app_armor_profile.as_ref());
        self.windows(&field("windowsOptions"), context.windows_options.as_ref());
        let seccomp = context.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
        self.seccomp(&field("seccompProfile"), seccomp);
        self.capabilities(&field("capabilities"), context.capabilities.as_ref());
        self.network(container);
    }

    fn network(&mut self, container: &AnyContainer<'_>) {
        for port in container.ports {
            let field = format!("{}.ports[{}].hostPort", container.field, port.container_port);
            self.require(matches!(port.host_port, None | Some(0)), &field, "must not be set");
        }
        for (name, probe) in container.probes {
            let Some(probe) = probe else { continue };
            let http = probe.http_get.as_ref().and_then(|get| get.host.as_deref());
            let tcp = probe.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref());
            self.no_host(&format!("{}.{name}", container.field), [http, tcp]);
        }
        let Some(lifecycle) = container.lifecycle else { return };
        for (name, handler) in
            [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)]
        {
            let Some(handler) = handler else { continue };
            let field = format!("{}.lifecycle.{name}", container.field);
            self.no_host(&field, handler_hosts(handler));
        }
    }

    /// The kubelet must not be made to call another host.
    fn no_host(&mut self, field: &str, hosts: [Option<&str>; 2]) {
        let named = hosts.into_iter().flatten().any(|host| !host.is_empty());
        self.require(!named, field, "must not name a host");
    }

    fn user(&mut self, field: &str, user: Option<i64>) {
        self.require(user != Some(0), field, "must not be 0");
    }

    fn se_linux(&mut self, field: &str, options: Option<&SELinuxOptions>) {
        let Some(options) = options else { return };
        let type_ = options.type_.as_deref().unwrap_or_default();
        self.require(SELINUX_TYPES.contains(&type_), field, "type must be one that confines");
        let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        self.require(empty(&options.user), field, "user must not be set");
        self.require(empty(&options.role), field, "role must not be set");
    }

    fn app_armor(&mut self, field: &str, profile: Option<&AppArmorProfile>) {
        let allowed = profile.is_none_or(|one| confined(&one.type_));
        self.require(allowed, field, "must be RuntimeDefault or Localhost");
    }

    fn annotations(&mut self, annotations: &BTreeMap<String, String>) {
        for (key, profile) in annotations {
            let allowed = !key.starts_with(APP_ARMOR_ANNOTATION)
                || profile.is_empty()
                || profile == "runtime/default"
                || profile.starts_with("localhost/");
            let field = format!("metadata.annotations[{key}]");
            self.require(allowed, &field, "must be runtime/default or localhost/…");
        }
    }

    fn windows(&mut self, field: &str, options: Option<&WindowsSecurityContextOptions>) {
        let host_process = options.and_then(|options| options.host_process);
        self.require(host_process != Some(true), field, "hostProcess must not be true");
    }

    fn seccomp(&mut self, field: &str, profile: Option<&SeccompProfile>) {
        let allowed = profile.is_some_and(|one| confined(&one.type_));
        self.require(allowed, field, "must be RuntimeDefault or Localhost, here or for the pod");
    }

    fn capabilities(&mut self, field: &str, capabilities: Option<&Capabilities>) {
        let none = Capabilities::default();
        let capabilities = capabilities.unwrap_or(&none);
        let dropped = capabilities.drop.iter().flatten().any(|one| one == "ALL");
        self.require(dropped, field, "must drop ALL");
        let added: Vec<_> = capabilities.add.iter().flatten().collect();
        let allowed = added.iter().all(|one| *one == BIND_SERVICE);
        self.require(allowed, field, "must add nothing but NET_BIND_SERVICE");
    }

    /// A volume has one source; the standard lists those that it allows.
    fn volume(&mut self, volume: &Volume) {
        let allowed = volume.config_map.is_some()
            || volume.csi.is_some()
            || volume.downward_api.is_some()
            || volume.empty_dir.is_some()
            || volume.ephemeral.is_some()
            || volume.persistent_volume_claim.is_some()
            || volume.projected.is_some()
            || volume.secret.is_some();
        let field = format!("volumes[{}]", volume.name);
        // Whatever else it may be besides, a path of the host it must not be.
        let allowed = allowed && volume.host_path.is_none();
        self.require(allowed, &field, "must be of a type that the profile allows");
    }
}

fn confined(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

fn handler_hosts(handler: &LifecycleHandler) -> [Option<&str>; 2] {
    [
        handler.http_get.as_ref().and_then(|get| get.host.as_deref()),
        handler.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref()),
    ]
}

#[cfg(test)]
#[path = "restricted_tests.rs"]
mod tests;
