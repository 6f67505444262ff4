//! Organizational units: those an MSP asks for, and those that stand for a role.
//!
//! Fabric: msp/mspimplsetup.go (`setupOUs`, `setupNodeOUsV142`) and msp/mspimplvalidate.go
//! (`validateIdentityOUsV142`).

use std::collections::BTreeMap;

use weft_crypto::{Certificate, CertificateError};
use weft_protos::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use crate::{
    chain::{Authorities, Authority},
    identity::{IdentityError, NodeRole, Roles},
};

/// A unit's definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("failed to read the certificate that it is tied to")]
    Certificate(#[source] CertificateError),
    #[error("the certificate that it is tied to is not UTF-8")]
    NotText,
    #[error("the certificate that it is tied to is not an authority of the MSP")]
    NotAuthority,
    #[error("the authority that it is tied to has intermediate authorities under it")]
    AuthorityNotLeaf,
}

#[derive(Debug)]
struct NodeUnit {
    name: String,
    role: NodeRole,
    certifiers: Option<[u8; 32]>,
}

/// What an MSP says about organizational units.
#[derive(Debug, Default)]
pub(crate) struct Units {
    recognized: BTreeMap<String, Vec<[u8; 32]>>,
    nodes: Vec<NodeUnit>,
}

impl Units {
    /// Reads the units; an error comes with the name of the unit it is about.
    pub(crate) fn new(
        config: &FabricMspConfig,
        authorities: &Authorities,
    ) -> Result<Self, (String, UnitError)> {
        let mut units = Self::default();
        for unit in &config.organizational_unit_identifiers {
            let certifiers = certifiers(unit, authorities)?;
            let name = unit.organizational_unit_identifier.clone();
            units.recognized.entry(name).or_default().push(certifiers);
        }
        if let Some(nodes) = config.fabric_node_ous.as_ref().filter(|nodes| nodes.enable) {
            units.nodes = node_units(nodes, authorities)?;
        }
        Ok(units)
    }

    /// Whether identities are told apart by role.
    pub(crate) fn roles_enabled(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Whether a unit stands for `role`.
    pub(crate) fn defines(&self, role: NodeRole) -> bool {
        self.nodes.iter().any(|unit| unit.role == role)
    }

    /// The roles that `units` stand for, wherever they were certified.
    pub(crate) fn roles(&self, units: &[String]) -> Roles {
        let held = self.nodes.iter().filter(|node| units.contains(&node.name));
        held.fold(Roles::default(), |roles, node| roles.with(node.role))
    }

    /// Checks the units of a certificate whose authorities hash to `certifiers`.
    pub(crate) fn check(
        &self,
        units: &[String],
        certifiers: &[u8; 32],
    ) -> Result<(), IdentityError> {
        let recognized =
            |unit: &String| self.recognized.get(unit).is_some_and(|tied| tied.contains(certifiers));
        if !self.recognized.is_empty() && !units.iter().any(recognized) {
            return Err(IdentityError::UnitNotRecognized { units: units.to_vec() });
        }
        if self.roles_enabled() { self.check_roles(units, certifiers) } else { Ok(()) }
    }

    /// Exactly one unit, counted as often as it stands in the certificate, stands for a role.
    fn check_roles(&self, units: &[String], certifiers: &[u8; 32]) -> Result<(), IdentityError> {
        let mut count = 0_usize;
        for unit in units {
            // Of two roles with the same unit name the later one decides.
            let Some(node) = self.nodes.iter().rev().find(|node| node.name == *unit) else {
                continue;
            };
            if node.certifiers.is_some_and(|tied| tied != *certifiers) {
                return Err(IdentityError::WrongCertifier { unit: unit.clone() });
            }
            count += 1;
        }
        match count {
            0 => Err(IdentityError::NoRole { units: units.to_vec() }),
            1 => Ok(()),
            _ => Err(IdentityError::SeveralRoles { units: units.to_vec() }),
        }
    }
}

fn node_units(
    nodes: &FabricNodeOUs,
    authorities: &Authorities,
) -> Result<Vec<NodeUnit>, (String, UnitError)> {
    let by_role = [
        (NodeRole::Client, &nodes.client_ou_identifier),
        (NodeRole::Peer, &nodes.peer_ou_identifier),
        (NodeRole::Admin, &nodes.admin_ou_identifier),
        (NodeRole::Orderer, &nodes.orderer_ou_identifier),
    ];
    let defined = by_role.into_iter().filter_map(|(role, unit)| Some((role, unit.as_ref()?)));
    let read = defined.map(|(role, unit)| {
        let tied = !unit.certificate.is_empty();
        let certifiers = if tied { Some(certifiers(unit, authorities)?) } else { None };
        Ok(NodeUnit { name: unit.organizational_unit_identifier.clone(), role, certifiers })
    });
    read.collect()
}

/// Hash of the path from the authority that the unit is tied to.
fn certifiers(
    unit: &FabricOuIdentifier,
    authorities: &Authorities,
) -> Result<[u8; 32], (String, UnitError)> {
    tied_to(unit, authorities).map_err(|error| (unit.organizational_unit_identifier.clone(), error))
}

fn tied_to(unit: &FabricOuIdentifier, authorities: &Authorities) -> Result<[u8; 32], UnitError> {
    let text = std::str::from_utf8(&unit.certificate).map_err(|_| UnitError::NotText)?;
    let certificate = Certificate::from_pem(text).map_err(UnitError::Certificate)?;
    let authority = authorities.find(&certificate).ok_or(UnitError::NotAuthority)?;
    // A root may be named although it has subordinates; an intermediate authority may not.
    let intermediate = authorities.intermediates().any(|other| std::ptr::eq(other, authority));
    if intermediate && authority.is_inner {
        return Err(UnitError::AuthorityNotLeaf);
    }
    Authority::certifiers(authority).ok_or(UnitError::NotAuthority)
}
