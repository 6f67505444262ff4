//! What a running node signs as, while its folder is renewed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use proptest::prelude::*;
use weft_msp::{NodeMsp, NodeRole, Renewal, RenewalError, SigningIdentity};
use weft_protos::msp::FabricMspConfig;
use weft_types::{MspId, Nonce, SignError, Signer, Timestamp};

const SAME: Renewal = Renewal { identity: false, definition: false };

struct World {
    org: Org,
    first: SigningIdentity,
    node: NodeMsp,
}

fn world() -> World {
    let org = Org::new("Org1MSP");
    let first = org.signer("peer0", &["peer"]);
    let node = NodeMsp::new(org.config.clone(), first.clone()).unwrap();
    World { org, first, node }
}

fn copy(org: &Org) -> Org {
    Org { msp_id: org.msp_id.clone(), ca: org.ca.clone(), config: org.config.clone() }
}

impl World {
    fn renew(
        &self,
        config: &FabricMspConfig,
        to: &SigningIdentity,
    ) -> Result<Renewal, RenewalError> {
        self.node.renew(config.clone(), to.clone(), NOW)
    }

    fn signs_as(&self, identity: &SigningIdentity) -> bool {
        self.node.identity().current().certificate() == identity.certificate()
    }
}

#[test]
fn a_renewed_certificate_is_taken_over_with_the_same_key_or_another() {
    let world = world();
    assert_eq!(world.renew(&world.org.config, &world.first).unwrap(), SAME);
    let profile = leaf_profile("peer0", &["peer"]);
    let key = world.first.key().clone();
    let certificate = world.org.ca.issue(key.public_key(), &profile).unwrap();
    let same_key = SigningIdentity::new(world.first.msp_id().clone(), certificate, key).unwrap();
    let other_key = world.org.signer("peer0", &["peer"]);
    for renewed in [same_key, other_key] {
        let renewal = world.renew(&world.org.config, &renewed).unwrap();
        assert_eq!(renewal, Renewal { identity: true, definition: false });
        assert!(world.signs_as(&renewed));
    }
}

#[test]
fn what_is_no_valid_identity_of_the_node_is_refused() {
    let world = world();
    let config = &world.org.config;
    let other = Org::new("Org1MSP");
    let stranger = other.signer("peer0", &["peer"]);
    let refused = |config: &FabricMspConfig, to: &SigningIdentity| {
        let error = world.renew(config, to).unwrap_err();
        assert!(world.signs_as(&world.first));
        assert!(world.node.check(NOW).is_ok());
        error
    };
    assert!(matches!(refused(config, &stranger), RenewalError::Stranger { .. }));
    assert!(matches!(refused(&other.config, &stranger), RenewalError::Roots));
    let admin = world.org.signer("admin", &["admin"]);
    let RenewalError::Roles { expected, found, .. } = refused(config, &admin) else { panic!() };
    assert!(expected.contains(NodeRole::Peer) && found.contains(NodeRole::Admin));
    let roleless = world.org.signer("peer0", &["elsewhere"]);
    assert!(matches!(refused(config, &roleless), RenewalError::Invalid { .. }));
    let mut revoking = copy(&world.org);
    let revoked = world.org.signer("peer0", &["peer"]);
    let ca = revoking.ca.clone();
    revoking.revoke(&ca, revoked.certificate());
    assert!(matches!(refused(&revoking.config, &revoked), RenewalError::Invalid { .. }));
    let elsewhere = SigningIdentity::new(
        MspId::new("Org2MSP").unwrap(),
        revoked.certificate().clone(),
        revoked.key().clone(),
    );
    assert!(matches!(refused(config, &elsewhere.unwrap()), RenewalError::OtherMsp { .. }));
    let broken = FabricMspConfig { root_certs: Vec::new(), ..config.clone() };
    assert!(matches!(refused(&broken, &revoked), RenewalError::Msp(_)));
    let late = Timestamp::from_seconds(i64::from(u32::MAX) * 4);
    let error = world.node.renew(config.clone(), revoked.clone(), late).unwrap_err();
    assert!(matches!(error, RenewalError::Invalid { .. }), "{error:?}");
    assert!(world.signs_as(&world.first));
}

#[test]
fn lists_and_roots_are_taken_over_with_the_identity_or_without() {
    let world = world();
    let client = world.org.signer("client", &["client"]);
    let valid = || read(&world.node.msps().current(), &client).validate(NOW).is_ok();
    assert!(valid());
    let mut revoking = copy(&world.org);
    let ca = revoking.ca.clone();
    revoking.revoke(&ca, client.certificate());
    let renewal = world.renew(&revoking.config, &world.first).unwrap();
    assert_eq!(renewal, Renewal { identity: false, definition: true });
    assert!(!valid());
    // A root is replaced in steps: both, then the certificate, then the old one goes.
    let next = Org::new("Org1MSP");
    let mut both = world.org.config.clone();
    both.root_certs.extend(next.config.root_certs.clone());
    assert!(world.renew(&both, &world.first).unwrap().definition);
    let renewed = next.signer("peer0", &["peer"]);
    assert!(world.renew(&both, &renewed).unwrap().identity);
    assert!(world.renew(&next.config, &renewed).unwrap().definition);
    assert!(world.signs_as(&renewed) && world.node.check(NOW).is_ok());
}

/// A message that names its signer.
fn message(
    signer: &dyn Signer,
    nonce: Nonce,
) -> Result<(bytes::Bytes, Vec<u8>, bytes::Bytes), SignError> {
    let creator = signer.serialized_identity();
    std::thread::yield_now();
    let message = [&creator[..], &nonce[..]].concat();
    let signature = signer.sign(&message)?;
    Ok((creator, message, signature))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever is swapped meanwhile, each message verifies under the certificate that it names,
    /// and no thread goes back to a certificate before the one it has seen.
    #[test]
    fn creator_and_signature_are_of_one_certificate(swaps in 1usize..12, signers in 1usize..4) {
        let world = world();
        let mut all = vec![world.first.clone()];
        all.extend((0..swaps).map(|_| world.org.signer("peer0", &["peer"])));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..signers).map(|_| scope.spawn(|| {
                let mut newest = 0;
                loop {
                    // Looked at first, so that the last round is after the last swap.
                    let last = done.load(Ordering::Acquire);
                    let signer = world.node.identity().current();
                    let (creator, message, signature) = message(&*signer, [7; 24]).unwrap();
                    let msps = world.node.msps().current();
                    let identity = msps.deserialize_identity(&creator).unwrap();
                    identity.verify(&message, &signature).unwrap();
                    let place = all.iter().position(|one| one.serialized_identity() == creator).unwrap();
                    assert!(place >= newest);
                    newest = place;
                    if last {
                        return newest;
                    }
                }
            })).collect();
            for renewed in &all[1..] {
                world.renew(&world.org.config, renewed).unwrap();
                std::thread::yield_now();
            }
            done.store(true, Ordering::Release);
            for thread in threads {
                assert_eq!(thread.join().unwrap(), swaps);
            }
        });
    }
}
