//! Organizations made for tests: an authority, and identities of every kind.
#![allow(dead_code)]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_crypto::{
    CaProfile, Certificate, CertificateAuthority, LeafProfile, LeafUsage, Name, PrivateKey,
    RevokedCertificate, Validity,
};
use weft_msp::{Authenticated, Identity, Msp, MspManager, SignedData, SigningIdentity, ValidAt};
use weft_protos::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, SerializedIdentity};
use weft_types::{MspId, Signer as _, Timestamp};

/// A time at which everything below is valid.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const YEAR: i64 = 365 * 24 * 3600;

/// From `from` to `to` seconds after [`NOW`].
pub fn validity(from: i64, to: i64) -> Validity {
    Validity {
        not_before: Timestamp::from_seconds(NOW.seconds() + from),
        not_after: Timestamp::from_seconds(NOW.seconds() + to),
    }
}

pub fn ca_profile(name: &str) -> CaProfile {
    CaProfile { name: Name::common(name), validity: validity(-YEAR, 10 * YEAR), max_path_len: None }
}

pub fn root(name: &str) -> CertificateAuthority {
    CertificateAuthority::new_root(PrivateKey::generate().unwrap(), &ca_profile(name)).unwrap()
}

pub fn intermediate(of: &CertificateAuthority, name: &str) -> CertificateAuthority {
    of.new_intermediate(PrivateKey::generate().unwrap(), &ca_profile(name)).unwrap()
}

pub fn leaf_profile(name: &str, units: &[&str]) -> LeafProfile {
    LeafProfile {
        name: Name {
            organization: None,
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
            common_name: name.to_owned(),
        },
        sans: Vec::new(),
        usage: LeafUsage::Identity,
        validity: validity(-1000, YEAR),
    }
}

pub fn pem(certificate: &Certificate) -> Bytes {
    certificate.pem().into()
}

pub fn unit(name: &str) -> Option<FabricOuIdentifier> {
    Some(FabricOuIdentifier {
        certificate: Bytes::new(),
        organizational_unit_identifier: name.to_owned(),
    })
}

pub fn node_ous() -> Option<FabricNodeOUs> {
    Some(FabricNodeOUs {
        enable: true,
        client_ou_identifier: unit("client"),
        peer_ou_identifier: unit("peer"),
        admin_ou_identifier: unit("admin"),
        orderer_ou_identifier: unit("orderer"),
    })
}

pub fn serialized(msp_id: &str, certificate: &Certificate) -> Bytes {
    serialized_text(msp_id, &certificate.pem())
}

pub fn serialized_text(msp_id: &str, pem: &str) -> Bytes {
    let identity = SerializedIdentity { mspid: msp_id.to_owned(), id_bytes: pem.to_owned().into() };
    identity.encode_to_vec().into()
}

/// An organization whose one authority issues its identities.
pub struct Org {
    pub msp_id: MspId,
    pub ca: CertificateAuthority,
    pub config: FabricMspConfig,
}

impl Org {
    pub fn new(msp_id: &str) -> Self {
        let ca = root(&format!("ca of {msp_id}"));
        let config = FabricMspConfig {
            name: msp_id.to_owned(),
            root_certs: vec![pem(ca.certificate())],
            fabric_node_ous: node_ous(),
            ..FabricMspConfig::default()
        };
        Self { msp_id: MspId::new(msp_id).unwrap(), ca, config }
    }

    pub fn msp(&self) -> Msp {
        Msp::new(&self.config).unwrap()
    }

    pub fn issue(&self, name: &str, units: &[&str]) -> Certificate {
        issue(&self.ca, name, units)
    }

    /// A new member that can sign.
    pub fn signer(&self, name: &str, units: &[&str]) -> SigningIdentity {
        let key = PrivateKey::generate().unwrap();
        let certificate = self.ca.issue(key.public_key(), &leaf_profile(name, units)).unwrap();
        SigningIdentity::new(self.msp_id.clone(), certificate, key).unwrap()
    }

    pub fn identity(&self, certificate: &Certificate) -> Identity {
        identity(&self.msp(), certificate)
    }

    /// Adds a list that revokes `certificate`, signed by `ca`.
    pub fn revoke(&mut self, ca: &CertificateAuthority, certificate: &Certificate) {
        let revoked = RevokedCertificate {
            serial: certificate.serial().to_vec(),
            revoked_at: NOW,
            reason: None,
        };
        let next = Timestamp::from_seconds(NOW.seconds() + YEAR);
        let crl = ca.issue_crl(&[revoked], 1, NOW, next).unwrap();
        self.config.revocation_list.push(crl.pem().into());
    }
}

pub fn issue(ca: &CertificateAuthority, name: &str, units: &[&str]) -> Certificate {
    let key = PrivateKey::generate().unwrap();
    ca.issue(key.public_key(), &leaf_profile(name, units)).unwrap()
}

pub fn identity(msp: &Msp, certificate: &Certificate) -> Identity {
    msp.deserialize_identity(&serialized(msp.id().as_str(), certificate)).unwrap()
}

pub fn manager<'a>(orgs: impl IntoIterator<Item = &'a Org>) -> Arc<MspManager> {
    Arc::new(MspManager::new(orgs.into_iter().map(Org::msp)).unwrap())
}

pub fn signed(signer: &SigningIdentity, data: &[u8]) -> SignedData {
    use weft_types::Signer as _;
    SignedData {
        data: Bytes::copy_from_slice(data),
        identity: signer.serialized_identity(),
        signature: signer.sign(data).unwrap(),
    }
}

pub fn read(msps: &MspManager, signer: &SigningIdentity) -> Arc<Identity> {
    msps.deserialize_identity(&signer.serialized_identity()).unwrap()
}

/// Somebody whose signature these MSPs verified.
pub fn authenticated(msps: &MspManager, signer: &SigningIdentity) -> Authenticated {
    let signature = signer.sign(b"hello").unwrap();
    read(msps, signer).authenticate(b"hello", &signature).unwrap()
}

/// Valid both now and whenever.
pub fn assert_valid(identity: &Identity) {
    assert_eq!(identity.validate(NOW), Ok(()));
    assert_eq!(identity.validate(ValidAt::Issuance), Ok(()));
}

/// The certificate with its signature's s replaced by n − s.
pub fn with_other_s(certificate: &Certificate) -> Certificate {
    let der = certificate.der();
    // The signature is the last element: BIT STRING { 0, SEQUENCE { r, s } }.
    let start = (0..der.len())
        .rev()
        .find(|at| {
            der[*at] == 0x03 && der[at + 1] as usize == der.len() - at - 2 && der[at + 2] == 0
        })
        .unwrap();
    let signature = p256::ecdsa::Signature::from_der(&der[start + 3..]).unwrap();
    let (r, s) = signature.split_scalars();
    let flipped = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    let bits = weft_crypto::der::bit_string(flipped.to_der().as_bytes());
    let header = if der[1] < 0x80 { 2 } else { 2 + (der[1] & 0x7f) as usize };
    let outer = weft_crypto::der::sequence([&der[header..start], &bits]);
    Certificate::from_der(&outer).unwrap()
}
