//! The Secret with a user's identity: read, used to sign, and written as a folder.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::SigningIdentity;
use weft_rpc::tls::TlsIdentity;
use weft_types::MspId;

use super::context::Context;
use super::error::ClusterError;
use crate::api::Organization;
use crate::cluster::names::{Holder, key};
use crate::local::files::{self, FileError};
use kube::ResourceExt;

/// A user's identity. It is not printed.
pub(super) struct Identity {
    object: String,
    msp_id: String,
    secret: Secret,
}

impl Identity {
    /// Reads the identity of a user; `None` when it is not there (yet).
    ///
    /// # Errors
    /// [`ClusterError`] when Secrets cannot be read.
    pub(super) async fn find(
        context: &Context,
        organization: &Organization,
        user: &str,
    ) -> Result<Option<Identity>, ClusterError> {
        let name = secret_name(organization, user);
        let object = format!("Secret {}/{name}", context.namespace);
        let found = context.api::<Secret>().get_opt(&name).await;
        let secret = found.map_err(ClusterError::at(format!("read {object}")))?;
        let msp_id = organization.spec.msp_id.clone();
        Ok(secret.map(|secret| Identity { object, msp_id, secret }))
    }

    /// Reads the identity of a user.
    ///
    /// # Errors
    /// As [`Identity::find`]; [`ClusterError::NoIdentity`].
    pub(super) async fn read(
        context: &Context,
        organization: &Organization,
        user: &str,
    ) -> Result<Identity, ClusterError> {
        let found = Identity::find(context, organization, user).await?;
        found.ok_or_else(|| ClusterError::NoIdentity {
            user: user.to_owned(),
            organization: organization.name_any(),
            secret: secret_name(organization, user),
            namespace: context.namespace.clone(),
        })
    }

    /// Whether it holds every key that an identity has.
    pub(super) fn is_complete(&self) -> bool {
        [key::SIGN_CERT, key::SIGN_KEY, key::CA_CERTS, key::TLS_CA_CERTS, key::CONFIG]
            .iter()
            .all(|key| self.get(key).is_some())
    }

    /// Who signs.
    ///
    /// # Errors
    /// [`ClusterError::NoKey`], [`ClusterError::BadKey`].
    pub(super) fn signer(&self) -> Result<SigningIdentity, ClusterError> {
        let msp_id = MspId::new(&self.msp_id).map_err(self.bad("the MSP id"))?;
        let private = PrivateKey::from_pkcs8_pem(&self.text(key::SIGN_KEY)?);
        let private = private.map_err(self.bad(key::SIGN_KEY))?;
        SigningIdentity::new(msp_id, self.certificate()?, private).map_err(self.bad(key::SIGN_CERT))
    }

    /// The certificate that it signs with.
    ///
    /// # Errors
    /// [`ClusterError::NoKey`], [`ClusterError::BadKey`].
    pub(super) fn certificate(&self) -> Result<Certificate, ClusterError> {
        Certificate::from_pem(&self.text(key::SIGN_CERT)?).map_err(self.bad(key::SIGN_CERT))
    }

    /// What is shown to a node that asks for a client certificate.
    ///
    /// # Errors
    /// [`ClusterError::NoKey`], [`ClusterError::BadKey`].
    pub(super) fn tls(&self) -> Result<TlsIdentity, ClusterError> {
        let (cert, private) = (self.text(key::TLS_CERT)?, self.text(key::TLS_KEY)?);
        TlsIdentity::from_pem(cert.as_bytes(), private.as_bytes(), &self.object)
            .map_err(self.bad(key::TLS_CERT))
    }

    /// Roots of the organization's TLS certificates.
    ///
    /// # Errors
    /// [`ClusterError::NoKey`], [`ClusterError::BadKey`].
    pub(super) fn tls_roots(&self) -> Result<Vec<Certificate>, ClusterError> {
        Certificate::all_from_pem(&self.text(key::TLS_CA_CERTS)?)
            .map_err(self.bad(key::TLS_CA_CERTS))
    }

    /// The certificate and the key that sign, as PEM.
    ///
    /// # Errors
    /// [`ClusterError::NoKey`], [`ClusterError::BadKey`].
    pub(super) fn pem(&self) -> Result<(String, String), ClusterError> {
        Ok((self.text(key::SIGN_CERT)?, self.text(key::SIGN_KEY)?))
    }

    /// Writes the folder that Fabric's tools and `weft` read: `msp` and `tls`, for its owner alone.
    ///
    /// # Errors
    /// [`FileError`] names the file.
    pub(super) fn write(&self, folder: &Path) -> Result<(), FileError> {
        for (from, to) in FOLDER {
            if let Some(contents) = self.get(from) {
                files::write(&folder.join(to), contents)?;
            }
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
    }

    fn text(&self, key: &str) -> Result<String, ClusterError> {
        let missing = || ClusterError::NoKey { object: self.object.clone(), key: key.to_owned() };
        let value = self.get(key).ok_or_else(missing)?;
        String::from_utf8(value.to_vec()).map_err(|_| missing())
    }

    fn bad<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        &self,
        key: &str,
    ) -> impl FnOnce(E) -> ClusterError {
        let (object, key) = (self.object.clone(), key.to_owned());
        move |source| ClusterError::BadKey { object, key, source: source.into() }
    }
}

/// Which key of the Secret becomes which file.
const FOLDER: [(&str, &str); 10] = [
    (key::SIGN_CERT, "msp/signcerts/cert.pem"),
    (key::SIGN_KEY, "msp/keystore/key.pem"),
    (key::CA_CERTS, "msp/cacerts/ca.pem"),
    (key::INTERMEDIATE_CERTS, "msp/intermediatecerts/ca.pem"),
    (key::TLS_CA_CERTS, "msp/tlscacerts/ca.pem"),
    (key::TLS_INTERMEDIATE_CERTS, "msp/tlsintermediatecerts/ca.pem"),
    (key::CONFIG, "msp/config.yaml"),
    (key::TLS_CERT, "tls/client.crt"),
    (key::TLS_KEY, "tls/client.key"),
    (key::TLS_CA_CERTS, "tls/ca.crt"),
];

/// Name of the Secret of a user.
pub(super) fn secret_name(organization: &Organization, user: &str) -> String {
    Holder::Organization(organization.name_any()).user(user)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use k8s_openapi::ByteString;

    use super::*;

    fn identity(keys: &[&str]) -> Identity {
        let data = keys.iter().map(|key| ((*key).to_owned(), ByteString(key.as_bytes().to_vec())));
        Identity {
            object: "Secret ledger/org1-user-ada".into(),
            msp_id: "Org1MSP".into(),
            secret: Secret { data: Some(data.collect()), ..Secret::default() },
        }
    }

    #[test]
    fn the_folder_is_an_msp_for_its_owner_alone() {
        let whole = identity(&[
            key::SIGN_CERT,
            key::SIGN_KEY,
            key::TLS_CERT,
            key::TLS_KEY,
            key::CA_CERTS,
            key::TLS_CA_CERTS,
            key::CONFIG,
        ]);
        assert!(whole.is_complete());
        let folder = tempfile::tempdir().unwrap();
        whole.write(folder.path()).unwrap();
        let mode = |path: &str| {
            std::fs::metadata(folder.path().join(path))
                .map(|file| file.permissions().mode() & 0o777)
        };
        for file in ["msp/keystore/key.pem", "tls/client.key", "msp/signcerts/cert.pem"] {
            assert_eq!(mode(file).unwrap(), 0o600, "{file}");
        }
        assert!(mode("msp/intermediatecerts/ca.pem").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let part = identity(&[key::SIGN_CERT]);
        assert!(!part.is_complete());
        assert_eq!(
            part.signer().err().unwrap().to_string(),
            "Secret ledger/org1-user-ada has no key.pem; `kubectl weft status` says how far the operator is"
        );
    }
}
