//! Verifiers that ask a [`RootSet`] anew for every handshake.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{ClientAuth, RootSet, provider};

/// Checks clients' certificates.
///
/// A certificate that an authority has signed must be of a known one, always. Where certificates
/// are optional, one that its holder has signed itself passes: it proves nothing but that the
/// holder has its key, and the client stays anonymous (see
/// [`crate::listen::PeerCertificates`]). Fabric's client libraries for Node present one on every
/// connection, to tie requests to it by its hash.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    roots: RootSet,
    auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Checks servers' certificates.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: RootSet,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whether the holder has signed the certificate itself.
pub(crate) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    weft_crypto::Certificate::from_der(certificate)
        .is_ok_and(|certificate| certificate.is_self_signed())
}

impl ClientVerifier {
    pub(crate) fn new(roots: RootSet, auth: ClientAuth) -> Self {
        Self { roots, auth, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerVerifier {
    pub(crate) fn new(roots: RootSet) -> Self {
        Self { roots, algorithms: provider().signature_verification_algorithms }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    /// No hints: the set changes while the answer is borrowed, and the names of the members'
    /// CAs are nobody's business before the handshake.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.auth == ClientAuth::Optional
            && intermediates.is_empty()
            && is_self_signed(end_entity)
        {
            return Ok(ClientCertVerified::assertion());
        }
        let verifier = self.roots.verifiers().client.clone();
        let verifier = verifier.ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.roots.verifiers().server.clone();
        let verifier = verifier.ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
