//! What can go wrong between the command and a cluster, told so that the person knows what to
//! do next.

use std::path::PathBuf;

/// A step of a command on a cluster that failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClusterError {
    /// There is nothing that says where the cluster is.
    #[error(
        "no cluster is configured: set KUBECONFIG, give --kubeconfig FILE, or log in to your cluster so that ~/.kube/config is written"
    )]
    NoKubeconfig(#[source] kube::config::InferConfigError),
    /// The file that was named cannot be used.
    #[error("failed to use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The context that was named cannot be used.
    #[error(
        "failed to use the context {context:?}; `kubectl config get-contexts` lists those there are"
    )]
    Context {
        /// Its name.
        context: String,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The client cannot be made from its configuration.
    #[error("failed to set up the client of the cluster {server}")]
    Client {
        /// The API server.
        server: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// No answer.
    #[error(
        "failed to {step}: the API server does not answer; is the cluster up, and is this the right --context?"
    )]
    Unreachable {
        /// What was tried.
        step: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The API server does not know the person.
    #[error("failed to {step}: the API server does not accept your credentials; log in again")]
    Unauthorized {
        /// What was tried.
        step: String,
    },
    /// The person may not do it.
    #[error(
        "failed to {step}: {message}; ask whoever runs the cluster for a Role that allows it, or name another namespace with -n"
    )]
    Forbidden {
        /// What was tried.
        step: String,
        /// The API server's words: who, which verb, which resource.
        message: String,
    },
    /// The definitions of the kinds are not installed.
    #[error(
        "failed to {step}: the cluster does not know the kinds of weft.dev; install the operator first (helm install weft-operator …)"
    )]
    NoKinds {
        /// What was tried.
        step: String,
    },
    /// Any other answer.
    #[error("failed to {step}: {message}")]
    Refused {
        /// What was tried.
        step: String,
        /// The API server's words.
        message: String,
    },
    /// Something of the client's own.
    #[error("failed to {step}")]
    Kube {
        /// What was tried.
        step: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// Something named is not there.
    #[error("there is no {what} {name:?} in namespace {namespace:?}; {}", known_text(known))]
    Unknown {
        /// Its kind, such as `channel`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// There is none to take by default.
    #[error("there is no {what} in namespace {namespace:?}{}", elsewhere_text(elsewhere))]
    None {
        /// Its kind, such as `channel`.
        what: &'static str,
        /// Where it was looked for.
        namespace: String,
        /// Namespaces that have networks, when that could be found out.
        elsewhere: Vec<String>,
    },
    /// There are several to take by default.
    #[error("there are several {what}s in namespace {namespace:?}: {}; choose one with {flag}", known.join(", "))]
    Several {
        /// Its kind, such as `channel`.
        what: &'static str,
        /// Where it was looked for.
        namespace: String,
        /// The flag that chooses.
        flag: &'static str,
        /// Those that are there.
        known: Vec<String>,
    },
    /// The organization runs elsewhere.
    #[error(
        "organization {organization:?} is external: its keys and peers are elsewhere, so {wish} is up to whoever runs it"
    )]
    External {
        /// Its name.
        organization: String,
        /// What cannot be done here.
        wish: &'static str,
    },
    /// No peer can be used now.
    #[error(
        "no peer of organization {organization:?} is ready; `kubectl weft status -n {namespace}` says why{}",
        list_of("; its pods: ", pods)
    )]
    NoReadyPeer {
        /// The organization.
        organization: String,
        /// Its namespace.
        namespace: String,
        /// Each pod with what it waits for.
        pods: Vec<String>,
    },
    /// An identity's Secret is not there.
    #[error(
        "there is no identity of user {user:?} of organization {organization:?} (Secret {namespace}/{secret}); `kubectl weft identity issue {organization} {user} -n {namespace}` makes one"
    )]
    NoIdentity {
        /// The user.
        user: String,
        /// The organization.
        organization: String,
        /// The Secret that was looked for.
        secret: String,
        /// Its namespace.
        namespace: String,
    },
    /// A Secret or ConfigMap lacks something.
    #[error("{object} has no {key}; `kubectl weft status` says how far the operator is")]
    NoKey {
        /// Kind, namespace and name.
        object: String,
        /// The key of its data.
        key: String,
    },
    /// A Secret or ConfigMap holds something that cannot be used.
    #[error("failed to use {key} of {object}")]
    BadKey {
        /// Kind, namespace and name.
        object: String,
        /// The key of its data.
        key: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The local end of a port-forward.
    #[error("failed to open a port on 127.0.0.1 for the port-forward")]
    Listen(#[source] std::io::Error),
    /// The cluster's end of a port-forward.
    #[error("failed to forward a port to {pod}: {message}")]
    Forward {
        /// Namespace and pod.
        pod: String,
        /// What the API server or the kubelet said.
        message: String,
    },
    /// Something did not come about in time.
    #[error("{what} after {seconds} s{}", list_of(": ", because))]
    Timeout {
        /// What is missing.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// What the cluster says about it.
        because: Vec<String>,
    },
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { "there are none".to_owned() } else { list_of("there are: ", known) }
}

fn elsewhere_text(namespaces: &[String]) -> String {
    match namespaces {
        [] => "; name its namespace with -n".to_owned(),
        [one] => format!("; there is a network in {one:?}: -n {one}"),
        several => format!("; there are networks in {}: choose one with -n", several.join(", ")),
    }
}

fn list_of(before: &str, all: &[String]) -> String {
    if all.is_empty() { String::new() } else { format!("{before}{}", all.join(", ")) }
}

impl ClusterError {
    /// What the client's error means for the step. `step` follows "failed to".
    pub(super) fn at(step: impl Into<String>) -> impl FnOnce(kube::Error) -> ClusterError {
        let step = step.into();
        move |source| match source {
            kube::Error::Api(status) => ClusterError::answer(step, status.code, &status.message),
            kube::Error::Service(_) | kube::Error::HyperError(_) => {
                ClusterError::Unreachable { step, source }
            }
            source => ClusterError::Kube { step, source },
        }
    }

    fn answer(step: String, code: u16, message: &str) -> ClusterError {
        let message = message.trim().to_owned();
        // A resource that the server does not serve is a bare 404 without an object's name.
        let unserved = message.starts_with("404 page not found")
            || message.contains("could not find the requested resource");
        match code {
            401 => ClusterError::Unauthorized { step },
            403 => ClusterError::Forbidden { step, message },
            404 if unserved => ClusterError::NoKinds { step },
            _ if message.is_empty() => {
                ClusterError::Refused { step, message: format!("status {code}") }
            }
            _ => ClusterError::Refused { step, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status {
            code,
            message: message.to_owned(),
            ..kube::core::Status::default()
        }))
    }

    #[test]
    fn an_answer_says_what_to_do() {
        let text =
            |code, message: &str| ClusterError::at("list channels")(api(code, message)).to_string();
        assert!(text(401, "Unauthorized").ends_with("log in again"));
        let forbidden = text(403, "channels is forbidden: User \"ada\" cannot list");
        assert!(forbidden.contains("User \"ada\" cannot list; ask whoever"), "{forbidden}");
        assert!(text(404, "404 page not found\n").contains("install the operator"));
        assert_eq!(
            text(404, "secrets \"a\" not found"),
            "failed to list channels: secrets \"a\" not found"
        );
        assert_eq!(text(500, ""), "failed to list channels: status 500");
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_listed() {
        let known = vec!["org1".to_owned(), "org2".to_owned()];
        let several = ClusterError::Several {
            what: "organization",
            namespace: "ledger".into(),
            flag: "--org",
            known: known.clone(),
        };
        assert_eq!(
            several.to_string(),
            "there are several organizations in namespace \"ledger\": org1, org2; choose one with --org"
        );
        let unknown = ClusterError::Unknown {
            what: "organization",
            name: "org3".into(),
            namespace: "ledger".into(),
            known,
        };
        assert!(unknown.to_string().ends_with("there are: org1, org2"));
        let none = ClusterError::None {
            what: "network",
            namespace: "default".into(),
            elsewhere: vec!["ledger".into()],
        };
        assert!(none.to_string().ends_with("in \"ledger\": -n ledger"), "{none}");
    }
}
