//! The one form of a certificate that identities are told apart by.
//!
//! An ECDSA signature (r, s) can be turned into (r, n − s) by anybody, so a certificate can be
//! written in two ways that are both signed. Fabric rewrites what it reads to the smaller s
//! (msp/cert.go, `sanitizeECDSASignedCert`); hashes here are of that form, so that one certificate
//! never counts as two identities and identifiers come out as Fabric's.

use std::borrow::Cow;

use p256::ecdsa::Signature;
use weft_crypto::{Certificate, der, sha256};

use crate::identity::IdentityId;

/// SHA-256 of the certificate with a low-S signature.
pub(crate) fn digest(certificate: &Certificate) -> IdentityId {
    match canonical_der(certificate) {
        Cow::Borrowed(_) => certificate.fingerprint(),
        Cow::Owned(bytes) => sha256(&bytes),
    }
}

/// The certificate with a low-S signature; borrowed when it has one already.
pub(crate) fn canonical_der(certificate: &Certificate) -> Cow<'_, [u8]> {
    rewritten(certificate.der()).map_or(Cow::Borrowed(certificate.der()), Cow::Owned)
}

/// `None` when there is nothing to rewrite.
fn rewritten(certificate: &[u8]) -> Option<Vec<u8>> {
    let (outer, _) = element(certificate)?;
    let (tbs, rest) = element(outer.contents)?;
    let (algorithm, rest) = element(rest)?;
    let (signature, _) = element(rest)?;
    // A bit string starts with the number of unused bits, which is none here.
    let (0, signature) = signature.contents.split_first()? else { return None };
    let signature = Signature::from_der(signature).ok()?;
    let low = signature.normalize_s();
    if low == signature {
        return None;
    }
    let bits = der::bit_string(low.to_der().as_bytes());
    Some(der::sequence([tbs.whole, algorithm.whole, &bits]))
}

struct Element<'a> {
    whole: &'a [u8],
    contents: &'a [u8],
}

/// The DER element at the start of `bytes`, and what follows it.
fn element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let first = *bytes.get(1)?;
    let (header, length) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let octets = usize::from(first & 0x7f);
        // Four octets of length are more than any certificate has.
        let length = bytes.get(2..2 + octets).filter(|_| octets <= 4)?;
        (2 + octets, length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
    };
    let end = header.checked_add(length)?;
    let whole = bytes.get(..end)?;
    Some((Element { whole, contents: bytes.get(header..end)? }, bytes.get(end..)?))
}
