//! The fixtures are what they say: nodes and clients can be started from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use weft_config::block;
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::{NodeRole, ValidAt, folder};
use weft_protos::common::HeaderType;
use weft_testkit::{
    Network, Org,
    clock::{EXPIRED, NOW},
    tx,
};
use weft_types::{ParsedEnvelope, Signer, transaction::ParsedTransaction};

#[test]
fn an_msp_folder_is_read_back() {
    let org = Org::new("Org1MSP");
    let dir = tempfile::tempdir().unwrap();
    org.write_msp(dir.path(), Some(&org.peer));
    let (definition, signer) = folder::load(dir.path(), &org.msp_id).unwrap();
    assert_eq!(definition.root_certs, org.msp_config().root_certs);
    assert_eq!(definition.tls_root_certs, org.msp_config().tls_root_certs);
    assert_eq!(signer.serialized_identity(), org.peer.serialized_identity());
    let identity = org.msp().deserialize_identity(&signer.serialized_identity()).unwrap();
    identity.validate(NOW).unwrap();
    assert!(identity.roles().contains(NodeRole::Peer));

    let key = dir.path().join("keystore/key.pem");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_tls_folder_is_read_back() {
    let org = Org::new("Org1MSP");
    let tls = org.tls("peer0", &["peer0.org1.example.com"]);
    let dir = tempfile::tempdir().unwrap();
    tls.write(dir.path());
    let read = |name: &str| fs::read_to_string(dir.path().join(Path::new(name))).unwrap();
    let certificate = Certificate::from_pem(&read("server.crt")).unwrap();
    let authority = Certificate::from_pem(&read("ca.crt")).unwrap();
    certificate.verify_signed_by(&authority).unwrap();
    let key = PrivateKey::from_pkcs8_pem(&read("server.key")).unwrap();
    assert!(key.public_key() == certificate.public_key());
    assert_eq!(certificate.sans().len(), 3);
}

#[test]
fn identities_can_be_old_or_revoked() {
    let mut org = Org::new("Org1MSP");
    let old = org.identity_valid("old", NodeRole::Client, EXPIRED);
    let read = |org: &Org, signer: &dyn Signer| {
        org.msp().deserialize_identity(&signer.serialized_identity()).unwrap()
    };
    assert!(read(&org, &old).validate(NOW).is_err());
    read(&org, &old).validate(ValidAt::Issuance).unwrap();
    read(&org, &org.client).validate(NOW).unwrap();
    org.revoke(&[org.client.certificate().clone()]);
    assert!(read(&org, &org.client).validate(NOW).is_err());
    read(&org, &org.admin).validate(NOW).unwrap();
}

#[test]
fn a_transaction_and_its_block_are_well_formed() {
    let network = Network::new(2, 1);
    let bundle = network.bundle("supply");
    let endorsers: [&dyn Signer; 2] = [&network.org(1).peer, &network.org(2).peer];
    let (tx_id, envelope) = tx::endorser_transaction(
        bundle.channel_id(),
        "asset",
        Bytes::from_static(b"results"),
        &network.org(1).client,
        &endorsers,
    );
    let parsed = ParsedEnvelope::from_envelope(envelope.clone()).unwrap();
    assert_eq!(parsed.header().check().unwrap(), HeaderType::EndorserTransaction);
    assert_eq!(parsed.header().check_tx_id().unwrap(), tx_id);
    let transaction = ParsedTransaction::parse(&parsed.payload).unwrap();
    assert_eq!(transaction.endorsements.len(), 2);
    let msps = bundle.msps();
    let creator = msps.deserialize_identity(parsed.header().creator()).unwrap();
    creator.verify(&parsed.payload_bytes, &parsed.signature).unwrap();

    let genesis = network.genesis("supply");
    let orderer = &network.orderers[0].identity;
    let next = tx::next_block(&genesis, 0, &[envelope], orderer);
    block::verify(&bundle, &next, NOW).unwrap();
}
