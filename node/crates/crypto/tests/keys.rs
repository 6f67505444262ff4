#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::Openssl;
use p256::ecdsa::Signature;
use proptest::prelude::*;
use weft_crypto::{
    KeyError, PrivateKey, PublicKey, SignatureError, pem::PemError, suite::Malleability,
};

/// The same signature with the other s that holds: n − s.
fn with_high_s(signature: &[u8]) -> Vec<u8> {
    let low = Signature::from_der(signature).unwrap();
    let (r, s) = low.split_scalars();
    let high = Signature::from_scalars(*r, -*s).unwrap();
    assert_ne!(high, low);
    high.to_der().as_bytes().to_vec()
}

#[test]
fn a_signature_holds_for_its_message_and_key_only() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let signature = key.sign(b"message").unwrap();
    assert_eq!(key.public_key().verify(b"message", &signature), Ok(()));
    let mismatch = Err(SignatureError::Mismatch);
    assert_eq!(key.public_key().verify(b"massage", &signature), mismatch);
    assert_eq!(other.public_key().verify(b"message", &signature), mismatch);
}

#[test]
fn signatures_are_always_low_s() {
    let key = PrivateKey::generate().unwrap();
    // Half of all raw signatures are high: 64 in a row would be low by chance once in 2^64.
    for index in 0..64_u8 {
        let signature = Signature::from_der(&key.sign(&[index]).unwrap()).unwrap();
        assert_eq!(signature.normalize_s(), signature);
    }
}

#[test]
fn high_s_is_refused_on_the_ledger_and_accepted_in_certificates() {
    let key = PrivateKey::generate().unwrap();
    let high = with_high_s(&key.sign(b"message").unwrap());
    let public = key.public_key();
    assert_eq!(public.verify(b"message", &high), Err(SignatureError::HighS));
    assert_eq!(public.verify_with(b"message", &high, Malleability::Accept), Ok(()));
}

#[test]
fn signatures_that_are_not_strict_der_are_malformed() {
    let key = PrivateKey::generate().unwrap();
    let good = key.sign(b"message").unwrap();
    let mut trailing = good.clone();
    trailing.push(0);
    let mut long_form = vec![0x30, 0x81, good[1]];
    long_form.extend_from_slice(&good[2..]);
    let zero_r = vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x01];
    for bad in [vec![], trailing, long_form, zero_r, good[..good.len() - 1].to_vec()] {
        let result = key.public_key().verify(b"message", &bad);
        assert_eq!(result, Err(SignatureError::Malformed), "{}", hex::encode(bad));
    }
}

#[test]
fn keys_survive_pem() {
    let key = PrivateKey::generate().unwrap();
    let pem = key.to_pkcs8_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let back = PrivateKey::from_pkcs8_pem(&pem).unwrap();
    assert_eq!(back.public_key(), key.public_key());
    let public = PublicKey::from_spki_pem(&key.public_key().to_spki_pem()).unwrap();
    assert_eq!(&public, key.public_key());
    assert_eq!(public.verify(b"m", &back.sign(b"m").unwrap()), Ok(()));
}

#[test]
fn a_private_key_does_not_show_itself() {
    let key = PrivateKey::generate().unwrap();
    let secret = hex::encode(&key.to_pkcs8_der().unwrap()[36..68]);
    assert!(!format!("{key:?}").contains(&secret));
}

#[test]
fn openssl_reads_our_key_as_its_own() {
    let openssl = Openssl::new();
    let key = PrivateKey::generate().unwrap();
    openssl.write("ours.pem", &key.to_pkcs8_pem().unwrap());
    let text = openssl.run("ec -in ours.pem -noout -text");
    assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
    assert!(text.contains("NIST CURVE: P-256"), "{text}");
    // openssl writes the key that it read exactly as we did.
    let again = openssl.run("pkcs8 -topk8 -nocrypt -in ours.pem");
    assert_eq!(again, *key.to_pkcs8_pem().unwrap());
    assert_eq!(openssl.run("ec -in ours.pem -pubout"), key.public_key().to_spki_pem());
}

#[test]
fn openssl_keys_are_read_in_all_plain_forms() {
    let openssl = Openssl::new();
    openssl.run("ecparam -name prime256v1 -genkey -out sec1.pem");
    openssl.run("ecparam -name prime256v1 -genkey -noout -out bare.pem");
    openssl.run("pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8.pem");
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out genpkey.pem");
    assert!(openssl.read("sec1.pem").contains("EC PARAMETERS"));
    for name in ["sec1.pem", "bare.pem", "pkcs8.pem", "genpkey.pem"] {
        let key = PrivateKey::from_pkcs8_pem(&openssl.read(name)).unwrap();
        let expected = openssl.run(&format!("ec -in {name} -pubout"));
        assert_eq!(key.public_key().to_spki_pem(), expected, "{name}");
        let crlf = openssl.read(name).replace('\n', "\r\n");
        assert_eq!(PrivateKey::from_pkcs8_pem(&crlf).unwrap().public_key(), key.public_key());
    }
}

#[test]
fn openssl_and_we_verify_each_others_signatures() {
    let openssl = Openssl::new();
    let key = PrivateKey::generate().unwrap();
    openssl.write("key.pem", &key.to_pkcs8_pem().unwrap());
    openssl.write("pub.pem", &key.public_key().to_spki_pem());
    openssl.write("message", "a message");
    std::fs::write(openssl.path("ours.sig"), key.sign(b"a message").unwrap()).unwrap();
    let verdict = openssl.run("dgst -sha256 -verify pub.pem -signature ours.sig message");
    assert_eq!(verdict.trim(), "Verified OK");
    openssl.run("dgst -sha256 -sign key.pem -out theirs.sig message");
    let theirs = std::fs::read(openssl.path("theirs.sig")).unwrap();
    let verdict = key.public_key().verify_with(b"a message", &theirs, Malleability::Accept);
    assert_eq!(verdict, Ok(()));
}

#[test]
fn unusable_keys_are_refused_by_name() {
    let openssl = Openssl::new();
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem");
    openssl.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    openssl.run("ecparam -name prime256v1 -genkey -noout -out plain.pem");
    openssl.run("pkcs8 -topk8 -passout pass:x -in plain.pem -out encrypted.pem");
    openssl.run("ec -aes128 -passout pass:x -in plain.pem -out legacy.pem");
    openssl.run("pkey -in p384.pem -pubout -out p384.pub");
    openssl.run("pkey -in rsa.pem -pubout -out rsa.pub");
    let private = |name| PrivateKey::from_pkcs8_pem(&openssl.read(name)).unwrap_err();
    assert!(matches!(private("p384.pem"), KeyError::Private { .. }));
    assert!(matches!(private("rsa.pem"), KeyError::Private { .. }));
    assert_eq!(private("encrypted.pem"), KeyError::Encrypted);
    assert_eq!(private("legacy.pem"), KeyError::Encrypted);
    let public = |name| PublicKey::from_spki_pem(&openssl.read(name)).unwrap_err();
    assert_eq!(public("p384.pub"), KeyError::Algorithm { oid: "1.2.840.10045.2.1".to_owned() });
    assert_eq!(public("rsa.pub"), KeyError::Algorithm { oid: "1.2.840.113549.1.1.1".to_owned() });
    let missing = KeyError::Pem(PemError::Missing { label: "PRIVATE KEY" });
    assert_eq!(PrivateKey::from_pkcs8_pem("no key").unwrap_err(), missing);
}

#[test]
fn points_off_the_curve_are_refused() {
    let mut spki = PrivateKey::generate().unwrap().public_key().spki_der().to_vec();
    *spki.last_mut().unwrap() ^= 1;
    assert!(matches!(PublicKey::from_spki_der(&spki), Err(KeyError::Public { .. })));
    spki.push(0);
    assert!(matches!(PublicKey::from_spki_der(&spki), Err(KeyError::Public { .. })));
}

proptest! {
    #[test]
    fn flipping_a_bit_of_a_signature_breaks_it(
        message: Vec<u8>,
        byte: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let key = PrivateKey::generate().unwrap();
        let mut signature = key.sign(&message).unwrap();
        prop_assert_eq!(key.public_key().verify(&message, &signature), Ok(()));
        let at = byte.index(signature.len());
        signature[at] ^= 1 << bit;
        prop_assert!(key.public_key().verify(&message, &signature).is_err());
    }

    #[test]
    fn hostile_bytes_are_errors(bytes: Vec<u8>, text: String) {
        let public = PrivateKey::generate().unwrap();
        prop_assert!(public.public_key().verify(b"", &bytes).is_err());
        prop_assert!(PrivateKey::from_der(&bytes).is_err());
        prop_assert!(PublicKey::from_spki_der(&bytes).is_err());
        prop_assert!(PrivateKey::from_pkcs8_pem(&text).is_err());
    }
}
