//! The authorities of a holder together, and the identities that they issue.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use weft_crypto::{Certificate, KeyError, PrivateKey};
use weft_msp::folder::{self, DefinitionError};
use weft_msp::{Msp, MspError};
use weft_package::PackageId;
use weft_protos::msp::FabricMspConfig;
use weft_types::{MspId, Timestamp};

use super::bundle;
use super::{Authority, SecretData, text};
use crate::cluster::names::key;
use crate::model::Certificates;
use crate::pki::{self, Fresh, IssueError, Leaf, Reason, RootUse};

/// Why an identity cannot be issued or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The authorities do not make up an MSP.
    #[error("failed to make the MSP {msp_id} of its certificate authorities")]
    Msp {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong.
        #[source]
        source: Box<MspError>,
    },
    /// The roles of the MSP cannot be tied to the authority.
    #[error("failed to define the roles of the MSP {msp_id}")]
    Units {
        /// The MSP.
        msp_id: MspId,
        /// What is wrong.
        #[source]
        source: DefinitionError,
    },
    /// The key in the Secret cannot be read. It is kept: it may be the only copy.
    #[error(
        "failed to read {key} of the identity of {holder}: put the key back, or delete the Secret to have a new one made"
    )]
    Key {
        /// Node or user.
        holder: String,
        /// The key of the Secret's data.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The key in the Secret is not text.
    #[error(
        "failed to read {key} of the identity of {holder}: it is not UTF-8 text; put the key back, or delete the Secret to have a new one made"
    )]
    NotText {
        /// Node or user.
        holder: String,
        /// The key of the Secret's data.
        key: &'static str,
    },
    /// A certificate cannot be issued.
    #[error("failed to issue the {} certificate of {holder}", word(*which))]
    Issue {
        /// Node or user.
        holder: String,
        /// Which of its two.
        which: RootUse,
        /// What is wrong.
        #[source]
        source: IssueError,
    },
    /// A new key cannot be written.
    #[error("failed to write the {} key of {holder}", word(*which))]
    WriteKey {
        /// Node or user.
        holder: String,
        /// Which of its two.
        which: RootUse,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
}

fn word(which: RootUse) -> &'static str {
    match which {
        RootUse::Identity => "signing",
        RootUse::Tls => "TLS",
    }
}

/// Which renewals wait for now. What is missing is always issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None.
    Nothing,
    /// That of the TLS certificate: channels pin those of orderers, which change one at a time.
    Tls,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Node or user: the certificate's common name.
    pub holder: String,
    /// Which of its two.
    pub which: RootUse,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "issued the {} certificate of {}: {}", word(self.which), self.holder, self.reason)
    }
}

/// What an identity Secret should hold, and when to look at it again. `Debug` does not show keys.
pub struct Ensured {
    /// All data of the Secret; `None` when it is so already.
    pub data: Option<SecretData>,
    /// What was issued: identity first.
    pub issued: Vec<Issued>,
    /// Why the TLS certificate would have been renewed, had it not been held back.
    pub held: Option<Reason>,
    /// When each of its certificates ends: identity first.
    pub expires: Vec<(RootUse, Timestamp)>,
    /// When the next renewal is due, one that is held back left out; `None` when all
    /// certificates end with their authorities.
    pub renew_at: Option<Timestamp>,
}

impl fmt::Debug for Ensured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ensured")
            .field("data", &self.data.as_ref().map(BTreeMap::keys))
            .field("issued", &self.issued)
            .field("held", &self.held)
            .field("expires", &self.expires)
            .field("renew_at", &self.renew_at)
            .finish()
    }
}

/// The two authorities of a holder, which make up an MSP.
#[derive(Clone, Debug)]
pub struct Authorities {
    msp_id: MspId,
    identity: Authority,
    tls: Authority,
    certificates: Certificates,
    definition: FabricMspConfig,
}

impl Authorities {
    /// Puts the two together. Certificates from before a renewal are left out when the MSP
    /// cannot hold both.
    ///
    /// # Errors
    /// [`IdentityError::Msp`] when they do not make up an MSP that nodes accept.
    pub fn new(
        msp_id: MspId,
        identity: Authority,
        tls: Authority,
        certificates: Certificates,
    ) -> Result<Authorities, IdentityError> {
        let definition = definition_of(&msp_id, &identity, &tls);
        if let Ok(definition) = definition {
            return Ok(Authorities { msp_id, identity, tls, certificates, definition });
        }
        let (identity, tls) = (identity.without_earlier(), tls.without_earlier());
        let definition = definition_of(&msp_id, &identity, &tls)?;
        Ok(Authorities { msp_id, identity, tls, certificates, definition })
    }

    /// The MSP's id.
    pub fn msp_id(&self) -> &MspId {
        &self.msp_id
    }

    /// Issues identities.
    pub fn identity(&self) -> &Authority {
        &self.identity
    }

    /// Issues TLS certificates.
    pub fn tls(&self) -> &Authority {
        &self.tls
    }

    /// Lifetimes of what they issue.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The MSP as a channel's config holds it.
    pub fn definition(&self) -> &FabricMspConfig {
        &self.definition
    }

    /// The one for that use.
    pub fn authority(&self, use_: RootUse) -> &Authority {
        match use_ {
            RootUse::Identity => &self.identity,
            RootUse::Tls => &self.tls,
        }
    }

    /// What the identity Secret of a node or user should hold: issues what is missing or due,
    /// keeps the keys that are there, and refreshes the public parts. `leaves` are the wanted
    /// identity and TLS certificates ([`crate::cluster::topology::Node::leaves`],
    /// [`pki::user_leaves`]), `current` the data of the Secret.
    ///
    /// # Errors
    /// [`IdentityError`] names the holder and its part.
    pub fn ensure(
        &self,
        leaves: &[Leaf; 2],
        current: Option<&SecretData>,
        hold: Hold,
        now: Timestamp,
    ) -> Result<Ensured, IdentityError> {
        let empty = SecretData::new();
        let current = current.unwrap_or(&empty);
        let [identity, tls] = leaves;
        let identity = self.half(identity, current, false, now)?;
        let tls = self.half(tls, current, hold == Hold::Tls, now)?;
        let data = self.data(&identity, &tls);
        Ok(Ensured {
            data: differs(current, &data).then_some(data),
            expires: vec![
                (RootUse::Identity, identity.certificate.not_after()),
                (RootUse::Tls, tls.certificate.not_after()),
            ],
            renew_at: [identity.renew_at, tls.renew_at].into_iter().flatten().min(),
            held: tls.held,
            issued: [identity.issued, tls.issued].into_iter().flatten().collect(),
        })
    }

    /// What the Secret of a contract that registers with the holder's peers should hold: a TLS
    /// certificate for this package and no other, the peers' roots, and the same once more in the
    /// forms that contract libraries take.
    ///
    /// # Errors
    /// [`IdentityError`] names the contract and its part.
    pub fn ensure_contract(
        &self,
        leaf: &Leaf,
        package: &PackageId,
        current: Option<&SecretData>,
        now: Timestamp,
    ) -> Result<Ensured, IdentityError> {
        let empty = SecretData::new();
        let current = current.unwrap_or(&empty);
        let tls = self.half(leaf, current, false, now)?;
        let data = self.contract_data(&tls, package);
        Ok(Ensured {
            data: differs(current, &data).then_some(data),
            expires: vec![(RootUse::Tls, tls.certificate.not_after())],
            renew_at: tls.renew_at,
            held: None,
            issued: tls.issued.into_iter().collect(),
        })
    }

    /// One of the two certificates and its key.
    fn half(
        &self,
        leaf: &Leaf,
        current: &SecretData,
        hold: bool,
        now: Timestamp,
    ) -> Result<Half, IdentityError> {
        let (cert_name, key_name) = names(leaf.root);
        let issuer = self.authority(leaf.root).issuer().certificate();
        let key = read_key(leaf, key_name, current)?;
        let found = text(current, cert_name).and_then(|pem| Certificate::from_pem(pem).ok());
        let found = pki::usable(found, key.as_ref());
        let reason = pki::due(leaf, found.as_ref(), issuer, now, &self.certificates);
        let stored = current.get(key_name).map(|pem| pem.0.clone()).unwrap_or_default();
        match (reason, found) {
            (None, Some(certificate)) => {
                let renew_at = pki::renew_at(&certificate, issuer, &self.certificates);
                Ok(Half { certificate, key: stored, issued: None, held: None, renew_at })
            }
            (held, Some(certificate)) if hold => {
                Ok(Half { certificate, key: stored, issued: None, held, renew_at: None })
            }
            (reason, _) => self.issue(leaf, key, stored, reason.unwrap_or(Reason::Missing), now),
        }
    }

    /// A new certificate; the key that is there stays as it is stored.
    fn issue(
        &self,
        leaf: &Leaf,
        key: Option<PrivateKey>,
        stored: Vec<u8>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Half, IdentityError> {
        let (holder, which) = (leaf.common_name.clone(), leaf.root);
        let authority = self.authority(which).issuer();
        let is_new = key.is_none();
        let Fresh { certificate, key, reason } =
            pki::issue(leaf, key, authority, reason, now, &self.certificates)
                .map_err(|source| IdentityError::Issue { holder: holder.clone(), which, source })?;
        let key = if is_new {
            let pem = key.to_pkcs8_pem().map_err(|source| IdentityError::WriteKey {
                holder: holder.clone(),
                which,
                source,
            })?;
            pem.as_bytes().to_vec()
        } else {
            stored
        };
        let renew_at = pki::renew_at(&certificate, authority.certificate(), &self.certificates);
        let issued = Some(Issued { holder, which, reason });
        Ok(Half { certificate, key, issued, held: None, renew_at })
    }

    fn data(&self, identity: &Half, tls: &Half) -> SecretData {
        let mut data: SecretData = bundle::public_parts(self)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes())))
            .collect();
        for (name, value) in [
            (key::SIGN_CERT, identity.certificate.pem().into_bytes()),
            (key::SIGN_KEY, identity.key.clone()),
            (key::TLS_CERT, self.tls_chain(tls)),
            (key::TLS_KEY, tls.key.clone()),
        ] {
            data.insert(name.to_owned(), ByteString(value));
        }
        data
    }

    fn contract_data(&self, tls: &Half, package: &PackageId) -> SecretData {
        let roots: String = self.tls.roots().iter().map(Certificate::pem).collect();
        let chain = self.tls_chain(tls);
        let data = [
            (key::CONTRACT_ROOTS, roots.into_bytes()),
            (key::TLS_CERT_BASE64, STANDARD.encode(&chain).into_bytes()),
            (key::TLS_KEY_BASE64, STANDARD.encode(&tls.key).into_bytes()),
            (key::TLS_CERT, chain),
            (key::TLS_KEY, tls.key.clone()),
            (key::PACKAGE_ID, package.to_string().into_bytes()),
        ];
        data.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value))).collect()
    }

    /// A TLS certificate as it is shown on connections, PEM: with those between it and the root.
    fn tls_chain(&self, tls: &Half) -> Vec<u8> {
        let sent: String = self.tls.sent_chain().iter().map(Certificate::pem).collect();
        (tls.certificate.pem() + &sent).into_bytes()
    }
}

/// The MSP of the two, as nodes accept it.
fn definition_of(
    msp_id: &MspId,
    identity: &Authority,
    tls: &Authority,
) -> Result<FabricMspConfig, IdentityError> {
    let definition = folder::define(&bundle::parts(identity, tls), msp_id)
        .map_err(|source| IdentityError::Units { msp_id: msp_id.clone(), source })?;
    Msp::new(&definition).map_err(|source| IdentityError::Msp {
        msp_id: msp_id.clone(),
        source: Box::new(source),
    })?;
    Ok(definition)
}

/// One certificate and its key, as it is stored. Not shown: it holds the key.
struct Half {
    certificate: Certificate,
    key: Vec<u8>,
    issued: Option<Issued>,
    held: Option<Reason>,
    renew_at: Option<Timestamp>,
}

/// Where certificate and key of a use are kept.
fn names(which: RootUse) -> (&'static str, &'static str) {
    match which {
        RootUse::Identity => (key::SIGN_CERT, key::SIGN_KEY),
        RootUse::Tls => (key::TLS_CERT, key::TLS_KEY),
    }
}

/// `None` when there is none.
fn read_key(
    leaf: &Leaf,
    key: &'static str,
    current: &SecretData,
) -> Result<Option<PrivateKey>, IdentityError> {
    let holder = || leaf.common_name.clone();
    if current.get(key).is_none_or(|pem| pem.0.is_empty()) {
        return Ok(None);
    }
    let pem = text(current, key).ok_or_else(|| IdentityError::NotText { holder: holder(), key })?;
    PrivateKey::from_pkcs8_pem(pem).map(Some).map_err(|source| IdentityError::Key {
        holder: holder(),
        key,
        source,
    })
}

/// Whether what the operator writes is otherwise in the Secret, or something of it is there that
/// should not be. What others have put beside it does not matter.
fn differs(current: &SecretData, wanted: &SecretData) -> bool {
    wanted.iter().any(|(name, value)| current.get(name) != Some(value))
        || [key::INTERMEDIATE_CERTS, key::TLS_INTERMEDIATE_CERTS]
            .iter()
            .any(|name| current.contains_key(*name) && !wanted.contains_key(*name))
}
