//! A membership service provider: what makes a certificate a member of an organization.
//!
//! The rules are those of Fabric's X.509 MSP from version 1.4.3 on, which 3.0 keeps
//! (msp/mspimplsetup.go `setupV142`, msp/mspimplvalidate.go).

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_crypto::{Certificate, CertificateError, Crl};
use weft_protos::{
    common::MspPrincipal,
    ext::{DecodeError, decode},
    msp::{FabricCryptoConfig, FabricMspConfig, MspConfig, SerializedIdentity},
};
use weft_types::{MspId, MspIdError};

use crate::{
    canonical,
    chain::{Authorities, ChainError, Issuer, Roots},
    identity::{Identity, IdentityError, IdentityId, NodeRole, ValidAt, Window},
    principal::PrincipalError,
    realm::Realm,
    revocation::{self, Revocations},
    units::Units,
    vouched::Vouched,
};

/// How long an encoded identity may be, in octets. Those with X.509 certificates have about 1 000.
pub const MAX_SERIALIZED_IDENTITY: usize = 64 * 1024;

/// `MspConfig.type` of an X.509 MSP.
const TYPE_X509: i32 = 0;

/// An MSP's definition cannot be used. `index` counts from 0 within the list that is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MspError {
    /// The definition is not the message it should be.
    #[error("failed to read an MSP definition")]
    Decode(#[source] DecodeError),
    /// The definition is of another kind than X.509, such as Idemix (1).
    #[error("failed to set up an MSP: type {0} is not supported, only X.509 (0)")]
    Type(i32),
    /// The MSP's id is not usable.
    #[error("failed to set up an MSP")]
    Id(#[source] MspIdError),
    /// No root certificate is given.
    #[error("failed to set up MSP {msp_id}: no root certificate")]
    NoRoots {
        /// The MSP.
        msp_id: MspId,
    },
    /// A hash other than SHA-2 with 256 bits is asked for.
    #[error("failed to set up MSP {msp_id}: hash function {name:?} is not supported")]
    HashFunction {
        /// The MSP.
        msp_id: MspId,
        /// The function's name.
        name: String,
    },
    /// A certificate cannot be read.
    #[error("failed to set up MSP {msp_id}: {list} {index} cannot be read")]
    Certificate {
        /// The MSP.
        msp_id: MspId,
        /// Which list, such as `root certificate`.
        list: &'static str,
        /// Which certificate of the list.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// The authorities do not make up paths to roots.
    #[error("failed to set up MSP {msp_id}")]
    Authorities {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong.
        #[source]
        source: ChainError,
    },
    /// The authorities of TLS certificates do not make up paths to roots.
    #[error("failed to set up the TLS authorities of MSP {msp_id}")]
    TlsAuthorities {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong.
        #[source]
        source: ChainError,
    },
    /// A revocation list cannot be used.
    #[error("failed to set up MSP {msp_id}: revocation list {index}: {reason}")]
    RevocationList {
        /// The MSP.
        msp_id: MspId,
        /// Which list.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An intermediate authority is revoked; it has to be taken out together with its revocation.
    #[error("failed to set up MSP {msp_id}: intermediate authority {subject:?} has been revoked")]
    AuthorityRevoked {
        /// The MSP.
        msp_id: MspId,
        /// The authority's subject.
        subject: String,
    },
    /// The definition of an organizational unit cannot be used.
    #[error("failed to set up MSP {msp_id}: organizational unit {unit:?}: {reason}")]
    Unit {
        /// The MSP.
        msp_id: MspId,
        /// The unit.
        unit: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An administrator's certificate does not lead to a root.
    #[error("failed to set up MSP {msp_id}: administrator {index} is not trusted")]
    AdminUntrusted {
        /// The MSP.
        msp_id: MspId,
        /// Which administrator.
        index: usize,
        /// What is wrong.
        #[source]
        source: ChainError,
    },
    /// An administrator is not a valid identity.
    #[error("failed to set up MSP {msp_id}: administrator {index} is not valid")]
    AdminInvalid {
        /// The MSP.
        msp_id: MspId,
        /// Which administrator.
        index: usize,
        /// What is wrong.
        #[source]
        source: IdentityError,
    },
    /// An administrator is neither client nor admin by organizational unit.
    #[error(
        "failed to set up MSP {msp_id}: administrator {index} has neither the client's nor the admin's unit"
    )]
    AdminRole {
        /// The MSP.
        msp_id: MspId,
        /// Which administrator.
        index: usize,
    },
    /// Nobody could administer the MSP.
    #[error(
        "failed to set up MSP {msp_id}: no administrator is listed, and no unit stands for the admin role"
    )]
    NoAdministrators {
        /// The MSP.
        msp_id: MspId,
    },
}

/// An encoded identity cannot be read, or its certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeserializeError {
    /// It is longer than [`MAX_SERIALIZED_IDENTITY`].
    #[error("failed to read an identity: {size} octets are more than {MAX_SERIALIZED_IDENTITY}")]
    TooLarge {
        /// Its length.
        size: usize,
    },
    /// It is not the message it should be.
    #[error("failed to read an identity")]
    Decode(#[source] DecodeError),
    /// Its MSP is not one of the channel.
    #[error("failed to read an identity: MSP {msp_id:?} is not known")]
    UnknownMsp {
        /// The id it gives.
        msp_id: String,
    },
    /// It is of another MSP than the one that was asked to read it.
    #[error("failed to read an identity: it is of MSP {found:?} and not of {expected}")]
    OtherMsp {
        /// The MSP that was asked.
        expected: MspId,
        /// The id it gives.
        found: String,
    },
    /// Its certificate is not PEM text.
    #[error("failed to read an identity of {msp_id}: its certificate is not text")]
    NotText {
        /// The MSP.
        msp_id: MspId,
    },
    /// Its certificate cannot be read.
    #[error("failed to read an identity of {msp_id}")]
    Certificate {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// Its certificate does not lead to a root of the MSP.
    #[error("failed to trust an identity of {msp_id}")]
    Untrusted {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong.
        #[source]
        source: ChainError,
    },
}

/// An X.509 MSP, set up and unchanging.
#[derive(Debug)]
pub struct Msp {
    id: MspId,
    authorities: Authorities,
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    tls_roots: Vec<Certificate>,
    tls_intermediates: Vec<Certificate>,
    revocations: Revocations,
    units: Units,
    admins: Vec<Certificate>,
    admin_ids: BTreeSet<IdentityId>,
}

impl Msp {
    /// Sets up the MSP that `config` defines. Its authorities may have expired: that matters where
    /// an identity is validated at a time.
    ///
    /// # Errors
    /// [`MspError`] naming the part of the definition that cannot be used.
    pub fn new(config: &FabricMspConfig) -> Result<Self, MspError> {
        let id = MspId::new(&config.name).map_err(MspError::Id)?;
        let read = Reader { id: &id };
        read.check_hashes(config.crypto_config.as_ref())?;
        let roots = read.certificates("root certificate", &config.root_certs)?;
        let intermediates =
            read.certificates("intermediate certificate", &config.intermediate_certs)?;
        let (tls_roots, tls_intermediates) = read.tls(config)?;
        let authorities = read.authorities(&roots, &intermediates)?;
        let lists = read.lists(&config.revocation_list)?;
        let revocations = Revocations::new(&authorities, &lists);
        let units = Units::new(config, &authorities).map_err(|(unit, error)| MspError::Unit {
            msp_id: id.clone(),
            unit,
            reason: with_causes(&error),
        })?;
        let admins = read.certificates("administrator", &config.admins)?;
        let admin_ids = admins.iter().map(canonical::digest).collect();
        let msp = Self {
            id,
            authorities,
            roots,
            intermediates,
            tls_roots,
            tls_intermediates,
            revocations,
            units,
            admins,
            admin_ids,
        };
        msp.check_intermediates()?;
        msp.check_admins()?;
        Ok(msp)
    }

    /// Sets up the MSP of a channel's `MSP` value.
    ///
    /// # Errors
    /// [`MspError`] as for [`Self::new`]; [`MspError::Type`] when it is not an X.509 MSP.
    pub fn from_config(config: &MspConfig) -> Result<Self, MspError> {
        if config.r#type != TYPE_X509 {
            return Err(MspError::Type(config.r#type));
        }
        let config: FabricMspConfig =
            decode("X.509 MSP definition", config.config.clone()).map_err(MspError::Decode)?;
        Self::new(&config)
    }

    /// The MSP's id.
    #[must_use]
    pub fn id(&self) -> &MspId {
        &self.id
    }

    /// Root certificates of identities.
    #[must_use]
    pub fn root_certificates(&self) -> &[Certificate] {
        &self.roots
    }

    /// Intermediate certificates of identities.
    #[must_use]
    pub fn intermediate_certificates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// Root certificates of TLS.
    #[must_use]
    pub fn tls_root_certificates(&self) -> &[Certificate] {
        &self.tls_roots
    }

    /// Intermediate certificates of TLS.
    #[must_use]
    pub fn tls_intermediate_certificates(&self) -> &[Certificate] {
        &self.tls_intermediates
    }

    /// Certificates of the administrators that are listed.
    #[must_use]
    pub fn admins(&self) -> &[Certificate] {
        &self.admins
    }

    /// Whether identities are told apart by role (NodeOUs).
    #[must_use]
    pub fn roles_enabled(&self) -> bool {
        self.units.roles_enabled()
    }

    /// Reads an encoded `msp.SerializedIdentity` of this MSP.
    ///
    /// # Errors
    /// [`DeserializeError`] when it is malformed, of another MSP, or its certificate does not lead
    /// to a root.
    pub fn deserialize_identity(&self, serialized: &[u8]) -> Result<Identity, DeserializeError> {
        if serialized.len() > MAX_SERIALIZED_IDENTITY {
            return Err(DeserializeError::TooLarge { size: serialized.len() });
        }
        let serialized = Bytes::copy_from_slice(serialized);
        let decoded: SerializedIdentity =
            decode("serialized identity", serialized.clone()).map_err(DeserializeError::Decode)?;
        if decoded.mspid != self.id.as_str() {
            let expected = self.id.clone();
            return Err(DeserializeError::OtherMsp { expected, found: decoded.mspid });
        }
        self.read_identity(serialized, &decoded.id_bytes)
    }

    pub(crate) fn read_identity(
        &self,
        serialized: Bytes,
        certificate: &[u8],
    ) -> Result<Identity, DeserializeError> {
        let msp_id = || self.id.clone();
        let text = std::str::from_utf8(certificate)
            .map_err(|_| DeserializeError::NotText { msp_id: msp_id() })?;
        let certificate = Certificate::from_pem(text)
            .map_err(|source| DeserializeError::Certificate { msp_id: msp_id(), source })?;
        self.identity(certificate, serialized)
            .map_err(|source| DeserializeError::Untrusted { msp_id: msp_id(), source })
    }

    /// Checks that `identity` is a valid member of its MSP: [`Identity::validate`].
    ///
    /// # Errors
    /// [`IdentityError`] when it is not.
    pub fn validate(
        &self,
        identity: &Identity,
        at: impl Into<ValidAt>,
    ) -> Result<(), IdentityError> {
        identity.validate(at)
    }

    /// Checks an identity against a principal: [`Identity::satisfies`].
    ///
    /// # Errors
    /// [`PrincipalError`] when it does not satisfy it.
    pub fn satisfies(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
        at: impl Into<ValidAt>,
    ) -> Result<(), PrincipalError> {
        identity.satisfies(principal, at)
    }

    fn identity(
        &self,
        certificate: Certificate,
        serialized: Bytes,
    ) -> Result<Identity, ChainError> {
        let issuer = self.authorities.issuer_of(&certificate)?;
        let id = canonical::digest(&certificate);
        Ok(Identity {
            msp_id: self.id.clone(),
            serialized,
            id,
            certifiers: issuer.path.certifiers,
            roles: self.units.roles(certificate.subject_ous()),
            roles_enabled: self.units.roles_enabled(),
            listed_admin: self.admin_ids.contains(&id),
            window: Window::of(&certificate).intersect(issuer.path.window),
            verdict: self.judge(&certificate, issuer),
            vouched: Vouched::default(),
            realm: Realm::NONE,
            certificate,
        })
    }

    /// All that decides whether a certificate is valid, but the time.
    fn judge(&self, certificate: &Certificate, issuer: Issuer<'_>) -> Result<(), IdentityError> {
        if certificate.is_ca() {
            return Err(IdentityError::IsAuthority);
        }
        if issuer.authority.is_inner {
            return Err(IdentityError::IssuerNotLeaf { issuer: issuer.authority.name() });
        }
        if self.revocations.contain(issuer.index, certificate) {
            let serial = revocation::serial_text(certificate);
            return Err(IdentityError::Revoked { serial });
        }
        self.units.check(certificate.subject_ous(), &issuer.path.certifiers)
    }

    fn check_intermediates(&self) -> Result<(), MspError> {
        let revoked = self.authorities.intermediates().find(|authority| {
            let certificate = &authority.certificate;
            let issuer = self.authorities.issuer_of(certificate);
            issuer.is_ok_and(|issuer| self.revocations.contain(issuer.index, certificate))
        });
        match revoked {
            None => Ok(()),
            Some(authority) => Err(MspError::AuthorityRevoked {
                msp_id: self.id.clone(),
                subject: authority.certificate.subject_text().to_owned(),
            }),
        }
    }

    fn check_admins(&self) -> Result<(), MspError> {
        for (index, certificate) in self.admins.iter().enumerate() {
            self.check_admin(index, certificate)?;
        }
        if self.admins.is_empty() && !self.units.defines(NodeRole::Admin) {
            return Err(MspError::NoAdministrators { msp_id: self.id.clone() });
        }
        Ok(())
    }

    fn check_admin(&self, index: usize, certificate: &Certificate) -> Result<(), MspError> {
        let msp_id = || self.id.clone();
        let admin = self
            .identity(certificate.clone(), Bytes::new())
            .map_err(|source| MspError::AdminUntrusted { msp_id: msp_id(), index, source })?;
        if !self.units.roles_enabled() {
            return admin.validate(ValidAt::Issuance).map_err(|source| MspError::AdminInvalid {
                msp_id: msp_id(),
                index,
                source,
            });
        }
        let roles = admin.roles();
        if roles.contains(NodeRole::Client) || roles.contains(NodeRole::Admin) {
            return Ok(());
        }
        Err(MspError::AdminRole { msp_id: msp_id(), index })
    }
}

/// Reads the parts of a definition, adding the MSP's id to what goes wrong.
struct Reader<'a> {
    id: &'a MspId,
}

impl Reader<'_> {
    fn check_hashes(&self, config: Option<&FabricCryptoConfig>) -> Result<(), MspError> {
        let Some(config) = config else { return Ok(()) };
        let family = (config.signature_hash_family.as_str(), "SHA2");
        let identifier = (config.identity_identifier_hash_function.as_str(), "SHA256");
        for (name, supported) in [family, identifier] {
            if !name.is_empty() && name != supported {
                let (msp_id, name) = (self.id.clone(), name.to_owned());
                return Err(MspError::HashFunction { msp_id, name });
            }
        }
        Ok(())
    }

    fn certificates(
        &self,
        list: &'static str,
        pems: &[Bytes],
    ) -> Result<Vec<Certificate>, MspError> {
        let read = |(index, pem): (usize, &Bytes)| {
            Certificate::from_pem(&String::from_utf8_lossy(pem)).map_err(|source| {
                MspError::Certificate { msp_id: self.id.clone(), list, index, source }
            })
        };
        pems.iter().enumerate().map(read).collect()
    }

    fn authorities(
        &self,
        roots: &[Certificate],
        intermediates: &[Certificate],
    ) -> Result<Authorities, MspError> {
        if roots.is_empty() {
            return Err(MspError::NoRoots { msp_id: self.id.clone() });
        }
        Authorities::new(roots, intermediates, Roots::SelfSigned)
            .map_err(|source| MspError::Authorities { msp_id: self.id.clone(), source })
    }

    fn tls(
        &self,
        config: &FabricMspConfig,
    ) -> Result<(Vec<Certificate>, Vec<Certificate>), MspError> {
        let roots = self.certificates("TLS root certificate", &config.tls_root_certs)?;
        let intermediates =
            self.certificates("TLS intermediate certificate", &config.tls_intermediate_certs)?;
        Authorities::new(&roots, &intermediates, Roots::AnySigner)
            .map_err(|source| MspError::TlsAuthorities { msp_id: self.id.clone(), source })?;
        Ok((roots, intermediates))
    }

    fn lists(&self, lists: &[Bytes]) -> Result<Vec<Crl>, MspError> {
        let read = |(index, list): (usize, &Bytes)| {
            revocation::parse(list).map_err(|error| MspError::RevocationList {
                msp_id: self.id.clone(),
                index,
                reason: with_causes(&error),
            })
        };
        lists.iter().enumerate().map(read).collect()
    }
}

/// The message of `error` and of what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
