//! The policies of a channel, by path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use common::*;
use prost::Message as _;
use weft_msp::{
    PolicyError, PolicyManager, PolicyTree, SigningIdentity,
    policy::{
        CompileError,
        application::{ApplicationPolicy, ApplicationPolicyError, DEFAULT_ENDORSEMENT},
        dsl,
    },
};
use weft_protos::common::{
    ConfigGroup, ConfigPolicy, Policy, SignaturePolicyEnvelope, policy::PolicyType,
};

/// A policy from text: an implicit meta one or a signature policy.
fn policy(text: &str) -> Policy {
    let (r#type, value) = match dsl::parse_implicit_meta(text) {
        Ok(meta) => (PolicyType::ImplicitMeta, meta.encode_to_vec()),
        Err(_) => (PolicyType::Signature, dsl::parse(text).unwrap().encode_to_vec()),
    };
    Policy { r#type: r#type.into(), value: value.into() }
}

fn tree(policies: &[(&str, &str)], groups: Vec<(&str, PolicyTree)>) -> PolicyTree {
    PolicyTree {
        policies: policies.iter().map(|(n, text)| ((*n).to_owned(), policy(text))).collect(),
        groups: groups.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect(),
    }
}

struct Channel {
    manager: PolicyManager,
    signers: BTreeMap<String, SigningIdentity>,
}

/// A channel of organizations A, B and C; C has no policy `Special`.
fn channel() -> Channel {
    let orgs: Vec<_> = ["A", "B", "C"].into_iter().map(Org::new).collect();
    let org = |id: &str| {
        let writers = format!("OR('{id}.member')");
        let admins = format!("OR('{id}.admin')");
        let endorsement = format!("OR('{id}.peer')");
        let mut policies =
            vec![("Writers", writers.as_str()), ("Admins", &admins), ("Endorsement", &endorsement)];
        if id != "C" {
            policies.push(("Special", &writers));
        }
        tree(&policies, vec![])
    };
    let application = tree(
        &[
            ("Writers", "ANY Writers"),
            ("Admins", "MAJORITY Admins"),
            ("Endorsement", "MAJORITY Endorsement"),
            ("All", "ALL Writers"),
            ("AllSpecial", "ALL Special"),
            ("Direct", "AND('A.peer', 'B.peer')"),
        ],
        vec![("A", org("A")), ("B", org("B")), ("C", org("C"))],
    );
    let orderer = tree(&[("Writers", "ANY Writers"), ("Empty", "ALL Nothing")], vec![]);
    let root = tree(
        &[("Writers", "ANY Writers"), ("Admins", "MAJORITY Admins"), ("Deep", "ANY A/Writers")],
        vec![("Application", application), ("Orderer", orderer)],
    );
    let manager = PolicyManager::new("Channel", &root, manager(&orgs)).unwrap();
    let mut signers = BTreeMap::new();
    for org in &orgs {
        for kind in ["peer", "admin"] {
            let name = format!("{}.{kind}", org.msp_id);
            signers.insert(name, org.signer(kind, &[kind]));
        }
    }
    Channel { manager, signers }
}

impl Channel {
    fn check(&self, path: &str, signers: &[&str]) -> Result<(), PolicyError> {
        let data: Vec<_> =
            signers.iter().map(|name| signed(&self.signers[*name], b"data")).collect();
        let msps = self.manager.msps();
        let identities: Vec<_> =
            signers.iter().map(|name| authenticated(msps, &self.signers[*name])).collect();
        let result = self.manager.evaluate(path, &data, NOW);
        let verified = self.manager.get(path)?.evaluate_authenticated(&identities, NOW);
        assert_eq!(result, verified, "both ways to evaluate agree");
        result
    }
}

#[test]
fn implicit_meta_policies() {
    let channel = channel();
    let check = |path: &str, signers: &[&str], expected: bool| {
        let result = channel.check(path, signers);
        assert_eq!(result.is_ok(), expected, "{path} signed by {signers:?}: {result:?}");
    };
    check("/Channel/Application/Writers", &["C.peer"], true);
    check("/Channel/Application/Writers", &[], false);
    check("/Channel/Application/Admins", &["A.admin"], false);
    check("/Channel/Application/Admins", &["A.admin", "B.peer"], false);
    check("/Channel/Application/Admins", &["A.admin", "C.admin"], true);
    check("/Channel/Application/All", &["A.peer", "B.peer"], false);
    check("/Channel/Application/All", &["A.peer", "B.admin", "C.admin"], true);
    check("/Channel/Writers", &["A.peer"], true);
    check("/Channel/Deep", &["A.peer"], true);
    check("/Channel/Deep", &["B.peer"], false);
    // One of two subgroups has no such policy, and MAJORITY of two is both.
    check("/Channel/Admins", &["A.admin", "B.admin", "C.admin"], false);
    // An organization without the policy never satisfies it.
    check("/Channel/Application/AllSpecial", &["A.peer", "B.peer", "C.peer"], false);
    // Without subgroups nothing is asked for.
    check("/Channel/Orderer/Empty", &[], true);
}

#[test]
fn errors_say_what_is_missing() {
    let channel = channel();
    let error =
        |path: &str, signers: &[&str]| channel.check(path, signers).unwrap_err().to_string();
    assert_eq!(
        error("/Channel/Application/Admins", &["A.admin", "B.peer"]),
        "policy /Channel/Application/Admins is not satisfied: 1 of 2 needed; not satisfied: \
         /Channel/Application/B/Admins, /Channel/Application/C/Admins; signed by A/admin, B/peer"
    );
    assert_eq!(
        error("/Channel/Application/AllSpecial", &["A.peer"]),
        "policy /Channel/Application/AllSpecial is not satisfied: 1 of 3 needed; not satisfied: \
         /Channel/Application/B/Special, /Channel/Application/C/Special (does not exist); \
         signed by A/peer"
    );
    assert_eq!(
        error("/Channel/Application/Readers", &[]),
        "policy \"/Channel/Application/Readers\" does not exist"
    );
}

#[test]
fn paths() {
    let channel = channel();
    let name = |manager: &PolicyManager, path: &str| {
        manager.get(path).map(|policy| policy.name().to_owned()).ok()
    };
    let root = &channel.manager;
    let writers = Some("/Channel/Application/Writers".to_owned());
    assert_eq!(name(root, "/Channel/Application/Writers"), writers);
    assert_eq!(name(root, "Application/Writers"), writers);
    let application = root.group("/Channel/Application").unwrap();
    assert_eq!(application.path(), "/Channel/Application");
    assert_eq!(name(application, "Writers"), writers);
    assert_eq!(name(application, "/Channel/Application/Writers"), writers);
    assert_eq!(name(application, "A/Writers").as_deref(), Some("/Channel/Application/A/Writers"));
    assert_eq!(
        name(root.group("Application/A").unwrap(), "Writers").as_deref(),
        Some("/Channel/Application/A/Writers")
    );
    // Absolute paths outside the group are not found from there.
    assert_eq!(name(application, "/Channel/Writers"), None);
    for missing in [
        "",
        "/",
        "//",
        "/Channel",
        "/Channel/",
        "/ChannelX/Writers",
        "/Application/Writers",
        "Writers/",
    ] {
        assert_eq!(
            root.get(missing).err(),
            Some(PolicyError::Missing { path: missing.to_owned() })
        );
    }
    assert!(root.group("/Channel").is_some());
    assert!(root.group("Nowhere").is_none());
    let names: Vec<_> = root.policies().map(|(name, _)| name).collect();
    assert_eq!(names, ["Admins", "Deep", "Writers"]);
}

#[test]
fn policies_that_cannot_be_set_up() {
    let check = |policy: Policy, expected: fn(&CompileError) -> bool| {
        let mut root = tree(&[], vec![("Application", PolicyTree::default())]);
        let application = root.groups.get_mut("Application").unwrap();
        application.policies.insert("Writers".to_owned(), policy);
        let org = Org::new("A");
        let error = PolicyManager::new("Channel", &root, manager([&org])).unwrap_err();
        assert_eq!(error.path, "/Channel/Application/Writers");
        assert!(expected(&error.source), "{:?}", error.source);
    };
    let of = |r#type: i32, value: &[u8]| Policy { r#type, value: Bytes::copy_from_slice(value) };
    check(of(0, b""), |e| matches!(e, CompileError::Type(0)));
    check(of(2, b""), |e| matches!(e, CompileError::Type(2)));
    check(of(1, b""), |e| matches!(e, CompileError::Empty));
    check(of(1, b"\xff"), |e| matches!(e, CompileError::Decode(_)));
    check(of(3, b"\xff"), |e| matches!(e, CompileError::Decode(_)));
    // Rule 7 for policies named "x".
    check(of(3, b"\x0a\x01x\x10\x07"), |e| matches!(e, CompileError::ImplicitRule(7)));
}

#[test]
fn tree_from_a_configuration() {
    let entry = |policy| ConfigPolicy { policy, ..ConfigPolicy::default() };
    let mut group = ConfigGroup::default();
    group.policies.insert("Writers".to_owned(), entry(Some(policy("ANY Writers"))));
    let mut root = ConfigGroup::default();
    root.groups.insert("Application".to_owned(), group);
    let expected = tree(&[], vec![("Application", tree(&[("Writers", "ANY Writers")], vec![]))]);
    assert_eq!(PolicyTree::from(&root), expected);
    // An entry without a policy is found when the tree is set up.
    root.policies.insert("Admins".to_owned(), entry(None));
    let org = Org::new("A");
    let error = PolicyManager::new("Channel", &PolicyTree::from(&root), manager([&org]));
    assert_eq!(error.unwrap_err().path, "/Channel/Admins");
}

#[test]
fn implicit_meta_policies_as_signature_policies() {
    let channel = channel();
    let text = |path: &str| {
        let envelope = channel.manager.get(path).unwrap().to_envelope();
        envelope.map(|envelope| dsl::format(&envelope).unwrap())
    };
    assert_eq!(
        text("/Channel/Application/Endorsement").unwrap(),
        "OutOf(2, OR('A.peer'), OR('B.peer'), OR('C.peer'))"
    );
    assert_eq!(text("/Channel/Application/Direct").unwrap(), "AND('A.peer', 'B.peer')");
    assert_eq!(
        text("/Channel/Application/AllSpecial"),
        Err(PolicyError::Incomplete {
            path: "/Channel/Application/AllSpecial".to_owned(),
            missing: "/Channel/Application/C/Special".to_owned(),
        })
    );
    // Equal principals of several policies become one.
    let twice = tree(
        &[("P", "ALL X")],
        vec![
            ("G", tree(&[("X", "OR('A.peer', 'B.peer')")], vec![])),
            ("H", tree(&[("X", "AND('B.peer', 'C.peer')")], vec![])),
        ],
    );
    let org = Org::new("A");
    let manager = PolicyManager::new("Channel", &twice, manager([&org])).unwrap();
    let envelope: SignaturePolicyEnvelope = manager.get("P").unwrap().to_envelope().unwrap();
    assert_eq!(envelope.identities.len(), 3);
    assert_eq!(
        dsl::format(&envelope).unwrap(),
        "AND(OR('A.peer', 'B.peer'), AND('B.peer', 'C.peer'))"
    );
}

#[test]
fn application_policies() {
    let channel = channel();
    let reference = ApplicationPolicy::ChannelReference(DEFAULT_ENDORSEMENT.to_owned());
    let decoded = ApplicationPolicy::decode(reference.encode()).unwrap();
    assert_eq!(decoded, reference);
    let resolved = decoded.resolve("cc", &channel.manager).unwrap();
    assert!(Arc::ptr_eq(&resolved, channel.manager.get(DEFAULT_ENDORSEMENT).unwrap()));

    let written = ApplicationPolicy::Signature(dsl::parse("OR('A.peer')").unwrap());
    let decoded = ApplicationPolicy::decode(written.encode()).unwrap();
    assert_eq!(decoded, written);
    let resolved = decoded.resolve("cc", &channel.manager).unwrap();
    assert_eq!(resolved.name(), "cc");
    let signature = [signed(&channel.signers["A.peer"], b"x")];
    assert_eq!(resolved.evaluate(&signature, NOW), Ok(()));

    let empty = ApplicationPolicy::decode(Bytes::new());
    assert_eq!(empty, Err(ApplicationPolicyError::Empty));
    let malformed = ApplicationPolicy::decode(Bytes::from_static(b"\xff"));
    assert!(matches!(malformed, Err(ApplicationPolicyError::Decode(_))));
    let nowhere = ApplicationPolicy::ChannelReference("/Channel/X".to_owned());
    let missing = nowhere.resolve("cc", &channel.manager);
    assert!(matches!(missing, Err(ApplicationPolicyError::Reference(_))));
    let unusable = ApplicationPolicy::Signature(SignaturePolicyEnvelope::default());
    let unusable = unusable.resolve("cc", &channel.manager);
    assert!(matches!(unusable, Err(ApplicationPolicyError::Compile(CompileError::Empty))));
}
