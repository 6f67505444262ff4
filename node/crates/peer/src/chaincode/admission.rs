//! Who may speak as the contract of a package. Pure.
//!
//! A contract is handed every transaction of its chaincode and its answers are endorsed, so a stream
//! becomes a connection only with an [`Admitted`], and there are three ways to one: the peer dialled
//! the service that the package names; the package is one that registers, and the client has shown a
//! certificate for it; or the peer is in development mode.
//!
//! Fabric's peer starts contracts itself, hands each a certificate of an authority of its own, and
//! accepts a registration with the hash of that certificate only (core/chaincode/accesscontrol).
//! Here others start contracts, so the certificate carries the package's id as a name
//! ([`PackageId::certificate_name`]) and comes from an authority that the peer is told of.

use weft_crypto::{Certificate, SubjectAltName};
use weft_rpc::listen::PeerCertificates;

use super::package::{PackageId, Reach};

/// Proof that a stream belongs to the contract of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    id: String,
}

/// Why a stream is not taken for a contract's. The texts reach the contract, which may be anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It was reached for another package.
    #[error("it announces itself as {announced:?}, not as {expected:?}")]
    Announced { announced: String, expected: String },
    /// There is no such package.
    #[error(
        "peer will not accept external chaincode connection {0}: no such package is installed \
         (except in dev mode)"
    )]
    NotInstalled(String),
    /// The peer dials it.
    #[error(
        "peer will not accept external chaincode connection {0}: its package names an address, \
         which the peer dials; only a contract of a package without an address registers"
    )]
    Dialled(PackageId),
    /// It has shown no certificate that names a package.
    #[error(
        "peer will not accept external chaincode connection {0}: it must show a TLS client \
         certificate with the URI {uri} among its subject alternative names",
        uri = .0.certificate_name()
    )]
    NoCertificate(PackageId),
    /// Its certificate is not for this package, or for several.
    #[error(
        "peer will not accept external chaincode connection {id}: its TLS client certificate is \
         for {named}"
    )]
    OtherCertificate { id: PackageId, named: String },
}

/// Proof that a client has shown a certificate for just this package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder(PackageId);

impl Holder {
    /// What a client's valid certificate says, where it claims to be the contract of `id`.
    pub(super) fn of(id: &PackageId, shown: &PeerCertificates) -> Result<Self, Refusal> {
        let leaf = shown.leaf().and_then(|leaf| Certificate::from_der(leaf).ok());
        let names = leaf.map(|leaf| leaf.sans().to_vec()).unwrap_or_default();
        Self::named(id, &names)
    }

    /// A certificate for several packages is for none: it would outlive the one that is replaced.
    fn named(id: &PackageId, names: &[SubjectAltName]) -> Result<Self, Refusal> {
        let ours: Vec<_> = names.iter().filter_map(package_name).collect();
        match ours.as_slice() {
            [] => Err(Refusal::NoCertificate(id.clone())),
            [Ok(named)] if named == id => Ok(Self(named.clone())),
            [Ok(other)] => {
                Err(Refusal::OtherCertificate { id: id.clone(), named: other.to_string() })
            }
            _ => {
                let named = "several packages, or for what is none".to_owned();
                Err(Refusal::OtherCertificate { id: id.clone(), named })
            }
        }
    }
}

fn package_name(
    name: &SubjectAltName,
) -> Option<Result<PackageId, super::package::PackageIdError>> {
    match name {
        SubjectAltName::Uri(uri) => PackageId::from_certificate_name(uri),
        _ => None,
    }
}

impl Admitted {
    /// The service that the peer has dialled for `id` and that announces itself.
    pub(super) fn dialled(id: &str, announced: &str) -> Result<Self, Refusal> {
        if announced == id {
            return Ok(Self { id: id.to_owned() });
        }
        let (announced, expected) = (announced.to_owned(), id.to_owned());
        Err(Refusal::Announced { announced, expected })
    }

    /// The holder of a package's certificate, where the package is one that registers.
    pub(super) fn registering(holder: Holder, reach: &Reach) -> Result<Self, Refusal> {
        match reach {
            Reach::Registers => Ok(Self { id: holder.0.to_string() }),
            Reach::Dialled(_) => Err(Refusal::Dialled(holder.0)),
        }
    }

    /// Anybody, in development mode.
    pub(super) fn in_development(announced: String) -> Self {
        Self { id: announced }
    }

    /// The id that it speaks for.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::super::package::Connection;
    use super::*;

    fn id(label: &str) -> PackageId {
        format!("{label}:{}", "ab".repeat(32)).parse().unwrap()
    }

    fn uri(text: &str) -> SubjectAltName {
        SubjectAltName::Uri(text.to_owned())
    }

    fn check(names: &[SubjectAltName], expect: Result<(), &str>) {
        let found = Holder::named(&id("asset_1.0"), names).map(drop).map_err(|e| e.to_string());
        match (found, expect) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expect)) => assert!(found.ends_with(expect), "{found}"),
            (found, expect) => panic!("{found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_certificate_is_for_exactly_one_package() {
        let name = id("asset_1.0").certificate_name();
        check(&[uri("spiffe://x"), uri(&name)], Ok(()));
        let several =
            Err("its TLS client certificate is for several packages, or for what is none");
        check(&[uri(&name), uri(&name)], several);
        check(&[uri(&name), uri("weft:chaincode:*")], several);
        check(&[uri("weft:chaincode:")], several);
    }

    #[test]
    fn other_names_are_none() {
        let name = id("asset_1.0").certificate_name();
        let none = Holder::named(&id("asset_1.0"), &[SubjectAltName::Dns(name.clone())]);
        assert_eq!(none, Err(Refusal::NoCertificate(id("asset_1.0"))));
        let upper = Holder::named(&id("asset_1.0"), &[uri(&name.to_uppercase())]);
        assert_eq!(upper, Err(Refusal::NoCertificate(id("asset_1.0"))));
        let other = Holder::named(&id("asset_1.0"), &[uri(&id("asset_1.1").certificate_name())]);
        assert!(matches!(other, Err(Refusal::OtherCertificate { .. })));
    }

    #[test]
    fn only_a_package_that_registers_is_registered() {
        let holder = Holder(id("asset_1.0"));
        let dialled = Reach::Dialled(Connection::plain("asset:9999"));
        assert_eq!(
            Admitted::registering(holder.clone(), &dialled),
            Err(Refusal::Dialled(id("asset_1.0")))
        );
        let admitted = Admitted::registering(holder, &Reach::Registers).unwrap();
        assert_eq!(admitted.id(), id("asset_1.0").to_string());
    }
}
