//! What the builders make of manifests: compared with files, and rules that hold for all of it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p weft-operator resources` writes the files anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;
use serde_json::Value;

use super::group::{self, BudgetApi, Group};
use super::node::{self, RunOptions};
use super::{chaincode, genesis, labels, network_policy, restricted};
use crate::api;
use crate::cluster::names::{self, Holder, annotation, label};
use crate::cluster::topology::Node;
use crate::manifest::Manifest;
use crate::model::{self, Network};

const NAMESPACE: &str = "ledgers";
const SETTINGS: &str = "a0b1c2";

/// A manifest and how its network runs.
struct Case {
    network: Network,
    chaincodes: Vec<api::Chaincode>,
    options: RunOptions,
    budget: BudgetApi,
}

impl Case {
    fn new(text: &str) -> Case {
        let manifest = Manifest::parse(text).unwrap();
        let network = model::validate(&manifest).unwrap().remove(0);
        let options = RunOptions {
            image: "weft-node:0.1.0".to_owned(),
            settings_hash: SETTINGS.to_owned(),
            ..RunOptions::default()
        };
        Case { network, chaincodes: manifest.chaincodes, options, budget: BudgetApi::V1 }
    }

    fn minimal() -> Case {
        Case::new(&read("minimal.manifest.yaml"))
    }

    fn full() -> Case {
        let mut case = Case::new(&read("full.manifest.yaml"));
        case.options.hibernated = true;
        case.options.intermediates = true;
        case.options.tls_intermediates = true;
        case.options.restarted_at = Some("2026-01-02T03:04:05Z".to_owned());
        case.budget = BudgetApi::V1Beta1;
        case
    }

    fn groups(&self) -> Vec<Group> {
        let group = |holder, replicas| Group {
            holder,
            network: self.network.name.clone(),
            namespace: NAMESPACE.to_owned(),
            replicas,
        };
        let ordering = Holder::Ordering(self.network.name.clone());
        let organizations = self.network.organizations.iter();
        let peers =
            organizations.map(|one| group(Holder::Organization(one.name.clone()), one.peers));
        std::iter::once(group(ordering, self.network.ordering.replicas)).chain(peers).collect()
    }

    fn nodes(&self) -> Vec<Node> {
        let network = &self.network;
        let orderers =
            (0..network.ordering.replicas).map(|index| Node::orderer(network, NAMESPACE, index));
        let peers = network.organizations.iter().flat_map(|one| {
            (0..one.peers).map(|index| Node::peer(&network.name, one, NAMESPACE, index))
        });
        orderers.chain(peers).collect()
    }

    fn programs(&self) -> Vec<chaincode::Program> {
        self.chaincodes.iter().map(|one| self.program(one)).collect()
    }

    fn program(&self, object: &api::Chaincode) -> chaincode::Program {
        let name = object.metadata.name.clone().unwrap();
        let channels = &self.network.channels;
        let channel =
            channels.iter().find(|one| one.id.to_string() == object.spec.channel_ref).unwrap();
        chaincode::Program {
            contract: object.spec.name.clone().unwrap_or_else(|| name.clone()),
            chaincode: name,
            version: object.spec.version.clone(),
            namespace: NAMESPACE.to_owned(),
            network: self.network.name.clone(),
            channel: object.spec.channel_ref.clone(),
            image: object.spec.image.clone().unwrap(),
            env: object.spec.env.clone(),
            resources: object.spec.resources.clone(),
            package_id: "contract_1.0:0123abcd".to_owned(),
            replicas: 1,
            organizations: channel.organizations.clone(),
        }
    }

    fn node_objects(&self, node: &Node) -> Vec<Value> {
        let mut settings = node::settings(node, &owner()).unwrap();
        // The text is the node's own affair; here it would hide the rest.
        settings.data.as_mut().unwrap().insert(names::key::SETTINGS.to_owned(), "…".to_owned());
        vec![
            json(&settings),
            json(&node::service(node, &owner())),
            json(&node::volume(node)),
            json(&node::stateful_set(node, &self.options, &owner()).unwrap()),
        ]
    }

    fn group_objects(&self, group: &Group) -> Vec<Value> {
        vec![
            json(&group::headless(group, &owner())),
            json(&group::client_service(group, &owner())),
            json(&group::disruption_budget(group, self.budget, &owner())),
            json(&network_policy::policy(group, &owner())),
        ]
    }

    fn program_objects(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        for program in self.programs() {
            objects.push(json(&chaincode::deployment(&program, &owner()).unwrap()));
            objects.push(json(&chaincode::service(&program, &owner())));
            objects.push(json(&chaincode::policy(&program, &owner())));
        }
        objects
    }

    fn objects_of(&self, nodes: &[Node]) -> Vec<Value> {
        let groups = self.groups();
        let groups = groups.iter().flat_map(|group| self.group_objects(group));
        let nodes = nodes.iter().flat_map(|node| self.node_objects(node));
        let blocks = self.network.channels.iter().map(|channel| {
            let name = &self.network.name;
            json(&genesis::genesis(channel.id.as_ref(), NAMESPACE, name, b"block"))
        });
        groups.chain(nodes).chain(blocks).chain(self.program_objects()).collect()
    }

    fn objects(&self) -> Vec<Value> {
        self.objects_of(&self.nodes())
    }

    fn templates(&self) -> Vec<PodTemplateSpec> {
        let templates = self.objects().into_iter().filter_map(|mut object| {
            let template = object.pointer_mut("/spec/template")?.take();
            Some(serde_json::from_value(template).unwrap())
        });
        templates.collect()
    }
}

fn owner() -> OwnerReference {
    OwnerReference {
        api_version: api::API_VERSION.to_owned(),
        kind: "LedgerNetwork".to_owned(),
        name: "owner".to_owned(),
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn json<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/resources").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap()
}

/// As YAML with keys in order, whichever order the features of `serde_json` give them.
fn yaml(object: &Value) -> String {
    fn ordered(value: &Value) -> serde_yaml::Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                let fields =
                    fields.into_iter().map(|(key, value)| (key.as_str().into(), ordered(value)));
                serde_yaml::Value::Mapping(fields.collect())
            }
            Value::Array(items) => items.iter().map(ordered).collect::<Vec<_>>().into(),
            scalar => serde_yaml::to_value(scalar).unwrap(),
        }
    }
    serde_yaml::to_string(&ordered(object)).unwrap()
}

/// The objects of a case against a file: those of every group and program, and of the first
/// node of each group, which the others are like.
fn check(case: &Case, expected: &str) {
    let nodes: Vec<_> = case.nodes().into_iter().filter(|node| node.index == 0).collect();
    let objects: Vec<_> = case.objects_of(&nodes).iter().map(yaml).collect();
    let found = objects.join("---\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden(expected), &found).unwrap();
    }
    let wanted = read(expected);
    let lines = found.lines().zip(wanted.lines()).enumerate();
    for (number, (found, wanted)) in lines {
        assert_eq!(found, wanted, "{expected}, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), wanted.lines().count(), "lines of {expected}");
}

#[test]
fn a_minimal_network() {
    check(&Case::minimal(), "minimal.objects.yaml");
}

#[test]
fn a_network_with_everything_set() {
    check(&Case::full(), "full.objects.yaml");
}

#[test]
fn every_pod_is_restricted() {
    for case in [Case::minimal(), Case::full()] {
        let templates = case.templates();
        assert!(templates.len() > case.nodes().len());
        for template in templates {
            assert_eq!(restricted::template_violations(&template), Vec::<String>::new());
        }
    }
}

#[test]
fn every_container_has_a_read_only_root_and_no_token() {
    for template in [Case::minimal(), Case::full()].iter().flat_map(Case::templates) {
        let spec = template.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        for container in spec.containers {
            let context = container.security_context.unwrap();
            assert_eq!(context.read_only_root_filesystem, Some(true));
        }
    }
}

#[test]
fn no_two_objects_share_a_kind_and_a_name() {
    for case in [Case::minimal(), Case::full(), longest()] {
        let mut seen = BTreeSet::new();
        for object in case.objects() {
            let key = (object["kind"].to_string(), object["metadata"]["name"].to_string());
            assert!(seen.insert(key.clone()), "{key:?}");
        }
    }
}

#[test]
fn every_object_says_where_it_belongs() {
    for object in Case::full().objects() {
        let meta = &object["metadata"];
        assert_eq!(meta["namespace"], NAMESPACE);
        assert_eq!(meta["labels"][label::MANAGED_BY], names::MANAGER);
        assert_eq!(meta["labels"][label::NETWORK], "trade");
        // What must outlive its network belongs to nobody.
        let stays = object["kind"] == "PersistentVolumeClaim" || object["immutable"] == true;
        assert_eq!(meta["ownerReferences"].is_null(), stays, "{object}");
        assert!(object.get("status").is_none(), "{object}");
    }
}

#[test]
fn nothing_is_null() {
    fn walk(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Array(items) => items.iter().all(walk),
            Value::Object(fields) => fields.values().all(walk),
            _ => true,
        }
    }
    for case in [Case::minimal(), Case::full()] {
        for object in case.objects() {
            assert!(walk(&object), "{object}");
        }
    }
}

/// Names as long as the rules of manifests allow.
fn longest() -> Case {
    let name = |first: &str| format!("{first}{}", "x".repeat(39));
    let text = read("minimal.manifest.yaml")
        .replace("basic", &name("b"))
        .replace("org1", &name("o"))
        .replace("asset}", &format!("{}}}", name("a")))
        .replace("supply", &format!("s{}", ".x".repeat(120)))
        .replace("spec: {}", "spec: {ordering: {replicas: 25}}")
        .replace("Org1MSP}", "Org1MSP, peers: {replicas: 50}}");
    Case::new(&text)
}

fn is_label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && edge(value.chars().next())
        && edge(value.chars().last())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[test]
fn the_longest_names_fit() {
    let case = longest();
    for object in case.objects() {
        let name = object["metadata"]["name"].as_str().unwrap();
        let limit = match object["kind"].as_str().unwrap() {
            // Its pods carry `NAME-` and ten digits of a hash as a label.
            "StatefulSet" => 52,
            "Service" | "Deployment" => 63,
            _ => 253,
        };
        assert!(name.len() <= limit, "{} {name}", object["kind"]);
        let labels =
            [&object["metadata"]["labels"], &object["spec"]["template"]["metadata"]["labels"]];
        for (key, value) in labels.into_iter().filter_map(Value::as_object).flatten() {
            assert!(is_label_value(value.as_str().unwrap()), "{key}: {value}");
        }
    }
}

/// The labels by which an object selects pods.
fn selectors(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    let spec = object.get("spec")?;
    let selector = match object["kind"].as_str()? {
        "Service" => spec.get("selector")?,
        "StatefulSet" | "Deployment" | "PodDisruptionBudget" => &spec["selector"]["matchLabels"],
        "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
        _ => return None,
    };
    selector.as_object()
}

fn selects(selector: &serde_json::Map<String, Value>, labels: &labels::Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
}

#[test]
fn selectors_find_their_pods_and_no_others() {
    let case = Case::full();
    let pods: Vec<_> =
        case.templates().into_iter().map(|t| t.metadata.unwrap().labels.unwrap()).collect();
    let counted: BTreeMap<_, _> = case
        .objects()
        .iter()
        .filter_map(|object| {
            let selector = selectors(object)?;
            let found = pods.iter().filter(|pod| selects(selector, pod)).count();
            let part = |value: &Value| value.as_str().unwrap().to_owned();
            Some(((part(&object["kind"]), part(&object["metadata"]["name"])), found))
        })
        .collect();
    assert!(counted.values().all(|found| *found > 0), "{counted:?}");
    for (kind, name, expected) in [
        ("StatefulSet", "trade-orderer-0", 1),
        ("Service", "trade-orderer-0", 1),
        ("Service", "trade-orderer", 5),
        ("Service", "trade-orderer-nodes", 5),
        ("PodDisruptionBudget", "trade-orderer", 5),
        ("NetworkPolicy", "trade-orderer", 5),
        ("Service", "maker-peer", 2),
        ("NetworkPolicy", "buyer-peer", 1),
    ] {
        assert_eq!(counted[&(kind.to_owned(), name.to_owned())], expected, "{kind} {name}");
    }
}

#[test]
fn selectors_do_not_change_with_the_spec() {
    let case = Case::full();
    let mut changed = Case::full();
    changed.network.ordering.node = api::NodeSpec::default();
    changed.network.organizations.iter_mut().for_each(|one| one.node = api::NodeSpec::default());
    changed.options = RunOptions { image: "other:2".to_owned(), ..RunOptions::default() };
    for (before, after) in case.objects().iter().zip(&changed.objects()) {
        assert_eq!(selectors(before), selectors(after));
    }
}

#[test]
fn the_template_hash_follows_the_template_and_nothing_else() {
    let case = Case::minimal();
    let node = Node::orderer(&case.network, NAMESPACE, 0);
    let hash = |node: &Node, options: &RunOptions| {
        let set = node::stateful_set(node, options, &owner()).unwrap();
        set.metadata.annotations.unwrap()[annotation::TEMPLATE_HASH].clone()
    };
    let before = hash(&node, &case.options);
    assert_eq!(before.len(), 64);
    let same = RunOptions { hibernated: true, ..case.options.clone() };
    assert_eq!(hash(&node, &same), before);
    for changed in [
        RunOptions { image: "weft-node:0.2.0".to_owned(), ..case.options.clone() },
        RunOptions { settings_hash: "other".to_owned(), ..case.options.clone() },
        RunOptions { restarted_at: Some("now".to_owned()), ..case.options.clone() },
        RunOptions { intermediates: true, ..case.options.clone() },
    ] {
        assert_ne!(hash(&node, &changed), before, "{changed:?}");
    }
    let other = Node::orderer(&case.network, NAMESPACE, 1);
    assert_ne!(hash(&other, &case.options), before);
}

#[test]
fn the_settings_hash_follows_the_settings() {
    let case = Case::minimal();
    let mut node = Node::orderer(&case.network, NAMESPACE, 0);
    let before = node::settings_hash(&node::settings(&node, &owner()).unwrap());
    assert_eq!(node::settings_hash(&node::settings(&node, &owner()).unwrap()), before);
    node.spec.log_level = Some("debug".to_owned());
    assert_ne!(node::settings_hash(&node::settings(&node, &owner()).unwrap()), before);
    node.spec.config.insert("no.such".to_owned(), "1".to_owned());
    let error = node::settings(&node, &owner()).unwrap_err().to_string();
    assert!(error.contains("no.such"), "{error}");
}

#[test]
fn budgets_keep_a_quorum_of_orderers_and_move_one_peer_at_a_time() {
    let limit = |holder: Holder, replicas, api| {
        let group =
            Group { holder, network: "n".to_owned(), namespace: NAMESPACE.to_owned(), replicas };
        let budget = json(&group::disruption_budget(&group, api, &owner()));
        (budget["apiVersion"].clone(), budget["spec"].clone())
    };
    for (orderers, quorum) in [(2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
        let (_, spec) = limit(Holder::Ordering("n".to_owned()), orderers, BudgetApi::V1);
        assert_eq!(spec["minAvailable"], quorum, "{orderers}");
        assert!(spec.get("maxUnavailable").is_none());
    }
    let (_, spec) = limit(Holder::Ordering("n".to_owned()), 1, BudgetApi::V1);
    assert_eq!(spec["maxUnavailable"], 1);
    let (version, spec) = limit(Holder::Organization("o".to_owned()), 4, BudgetApi::V1Beta1);
    assert_eq!((version, spec["maxUnavailable"].clone()), ("policy/v1beta1".into(), 1.into()));
    assert_eq!(BudgetApi::V1.resource().plural, "poddisruptionbudgets");
    assert_eq!(BudgetApi::V1.resource().api_version, "policy/v1");
}

#[test]
fn a_new_version_or_image_is_another_program() {
    let name =
        |version: &str, image: &str| chaincode::program_name("asset", "asset", version, image);
    assert_eq!(name("1.0", "a:1"), name("1.0", "a:1"));
    assert_ne!(name("1.0", "a:1"), name("1.1", "a:1"));
    assert_ne!(name("1.0", "a:1"), name("1.0", "a:2"));
    for object in ["asset", "9.lives", "a.b", &"x".repeat(253), "", "ü"] {
        let name = chaincode::program_name(object, "c", "1", "i");
        assert!(name.len() <= 63 && is_label_value(&name), "{name}");
        assert!(
            name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.'),
            "{name}"
        );
    }
    let one = Case::minimal().programs().remove(0);
    assert_eq!(one.address(), format!("{}.{NAMESPACE}.svc:9999", one.name()));
    let mut other = one.clone();
    other.package_id = "x".to_owned();
    other.env.clear();
    assert_eq!(other.name(), one.name());
}

#[test]
fn a_programs_environment_is_the_users_and_then_ours() {
    let mut program = Case::full().programs().remove(0);
    let again = program.env[0].clone();
    program.env.push(k8s_openapi::api::core::v1::EnvVar { value: Some("2".to_owned()), ..again });
    let deployment = chaincode::deployment(&program, &owner()).unwrap();
    let container = deployment.spec.template.spec.unwrap().containers.remove(0);
    let env: Vec<_> = container.env.unwrap().into_iter().map(|one| (one.name, one.value)).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        env,
        [
            ("TOKEN".to_owned(), None),
            ("LOG_LEVEL".to_owned(), some("2")),
            ("CHAINCODE_ID".to_owned(), some("contract_1.0:0123abcd")),
            ("CHAINCODE_SERVER_ADDRESS".to_owned(), some("0.0.0.0:9999")),
        ]
    );
}

#[test]
fn long_values_of_labels_are_cut_and_stay_apart() {
    let long = "x".repeat(249);
    assert_eq!(labels::value("short"), "short");
    assert_eq!(labels::value(&long).len(), 63);
    assert_ne!(labels::value(&long), labels::value(&format!("{long}y")));
    let odd = format!("{}{}", "x".repeat(53), ".".repeat(100));
    assert!(is_label_value(&labels::value(&odd)), "{}", labels::value(&odd));
    let text = labels::selector_text(&labels::selector_for_network("n"));
    assert_eq!(text, "app.kubernetes.io/name=weft-node,weft.dev/network=n");
}
