//! Bytes that somebody made up: errors, never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use prost::Message as _;
use weft_msp::{Msp, MspManager, Policy, Principal, SigningIdentity, policy::plan};
use weft_protos::{
    common::{MspPrincipal, SignaturePolicyEnvelope},
    msp::{FabricMspConfig, MspConfig},
};

struct World {
    msps: Arc<MspManager>,
    identity: Bytes,
    signer: SigningIdentity,
    definition: Bytes,
    policy: Bytes,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut org = Org::new("A");
        let below = intermediate(&org.ca, "below");
        let (ca, bad) = (org.ca.clone(), org.issue("bad", &["peer"]));
        org.revoke(&ca, &bad);
        org.config.intermediate_certs = vec![pem(below.certificate())];
        let text = "OR(AND('A.peer', 'B.peer'), OutOf(2, 'A.client', 'A.admin', 'B.member'))";
        World {
            msps: manager([&org]),
            identity: serialized("A", &issue(&below, "x", &["peer"])),
            signer: org.signer("y", &["peer"]),
            definition: org.config.encode_to_vec().into(),
            policy: weft_msp::policy::dsl::parse(text).unwrap().encode_to_vec().into(),
        }
    })
}

/// `bytes` with a few octets changed, and perhaps cut short.
fn damaged(bytes: &'static Bytes) -> impl Strategy<Value = Bytes> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (changes, prop::option::weighted(0.2, any::<prop::sample::Index>())).prop_map(
        move |(changes, cut)| {
            let mut bytes = bytes.to_vec();
            for (index, octet) in changes {
                let at = index.index(bytes.len());
                bytes[at] = octet;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes.into()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A damaged identity is refused, or it is the same certificate in another wrapping.
    #[test]
    fn identities(bytes in damaged(&world().identity)) {
        let original = world().msps.deserialize_identity(&world().identity).unwrap();
        if let Ok(identity) = world().msps.deserialize_identity(&bytes) {
            prop_assert!(identity.is_same(&original));
        }
    }

    #[test]
    fn definitions(bytes in damaged(&world().definition)) {
        let _ = Msp::from_config(&MspConfig { r#type: 0, config: bytes.clone() });
        if let Ok(config) = FabricMspConfig::decode(bytes) {
            let _ = Msp::new(&config);
        }
    }

    #[test]
    fn policies(bytes in damaged(&world().policy)) {
        if let Ok(envelope) = SignaturePolicyEnvelope::decode(bytes) {
            let policy = Policy::signature("x", &envelope, Arc::clone(&world().msps));
            prop_assert_eq!(policy.is_err(), plan::combinations(&envelope, 100).is_err());
            if let Ok(policy) = policy {
                let _ = policy.evaluate_authenticated(&[world().signer.authenticated()], NOW);
                let _ = policy.to_envelope();
            }
        }
    }

    #[test]
    fn principals(
        principal_classification in -1..6_i32,
        principal in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let principal = MspPrincipal { principal_classification, principal: principal.into() };
        let identity = world().msps.deserialize_identity(&world().identity).unwrap();
        let decoded = Principal::decode(&principal);
        prop_assert_eq!(
            identity.satisfies(&principal, NOW).is_ok(),
            decoded.is_ok_and(|decoded| decoded.check(&identity, NOW).is_ok())
        );
    }
}
