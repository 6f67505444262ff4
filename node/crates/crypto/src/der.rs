//! A small DER writer: the few ASN.1 forms that certificates, keys and block headers are made of.
//!
//! Reading is left to `x509-parser`; writing is done here because issued certificates must keep an
//! issuer's name byte for byte, repeat attributes (several organizational units) and name any
//! suite's algorithms. Every function returns one complete element (tag, length, content).

/// Universal tags that are written here (X.690).
mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
}

use crate::time::{Timestamp, TimestampError};

/// One element with the identifier octet `tag`; lengths use DER's shortest form.
#[must_use]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    push_length(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let significant = strip_zeros(&bytes);
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend_from_slice(significant);
        }
    }
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes.get(first..).unwrap_or_default()
}

/// SEQUENCE of already encoded elements.
#[must_use]
pub fn sequence<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    element(tag::SEQUENCE, &concat(parts))
}

/// SET with one already encoded member (no sorting is needed for one).
#[must_use]
pub fn set_of_one(part: &[u8]) -> Vec<u8> {
    element(tag::SET, part)
}

/// Joins already encoded elements.
#[must_use]
pub fn concat<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(part.as_ref());
    }
    out
}

/// Non-negative INTEGER from big-endian bytes of any length: leading zeros go, and a zero octet
/// keeps a set top bit from reading as a minus sign.
#[must_use]
pub fn unsigned_integer(big_endian: &[u8]) -> Vec<u8> {
    let significant = strip_zeros(big_endian);
    let mut content = Vec::with_capacity(significant.len() + 1);
    if significant.first().is_none_or(|top| *top >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(significant);
    element(tag::INTEGER, &content)
}

/// Non-negative INTEGER.
#[must_use]
pub fn integer(value: u64) -> Vec<u8> {
    unsigned_integer(&value.to_be_bytes())
}

/// ENUMERATED with a value below 128.
#[must_use]
pub fn enumerated(value: u8) -> Vec<u8> {
    element(tag::ENUMERATED, &[value & 0x7f])
}

/// BOOLEAN true (false is a default that DER leaves out wherever it is used here).
#[must_use]
pub fn boolean_true() -> Vec<u8> {
    element(tag::BOOLEAN, &[0xff])
}

/// OCTET STRING.
#[must_use]
pub fn octet_string(content: &[u8]) -> Vec<u8> {
    element(tag::OCTET_STRING, content)
}

/// BIT STRING of whole octets.
#[must_use]
pub fn bit_string(content: &[u8]) -> Vec<u8> {
    named_bits(0, content)
}

/// BIT STRING whose last octet has `unused` bits that do not count.
#[must_use]
pub fn named_bits(unused: u8, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(content.len() + 1);
    body.push(unused);
    body.extend_from_slice(content);
    element(tag::BIT_STRING, &body)
}

/// OBJECT IDENTIFIER from its content octets (without tag and length).
#[must_use]
pub fn oid(content: &[u8]) -> Vec<u8> {
    element(tag::OID, content)
}

/// UTF8String.
#[must_use]
pub fn utf8_string(text: &str) -> Vec<u8> {
    element(tag::UTF8_STRING, text.as_bytes())
}

/// PrintableString; the caller has checked the characters.
#[must_use]
pub fn printable_string(text: &str) -> Vec<u8> {
    element(tag::PRINTABLE_STRING, text.as_bytes())
}

/// `[number]` around already encoded content (explicit tagging, or implicit over a constructed type).
#[must_use]
pub fn context_constructed(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | (number & 0x1f), content)
}

/// `[number]` in place of a primitive type's own tag (implicit tagging).
#[must_use]
pub fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    element(0x80 | (number & 0x1f), content)
}

/// A certificate's time: UTCTime from 1950 to 2049, GeneralizedTime otherwise (RFC 5280, 4.1.2.5),
/// whole seconds.
///
/// # Errors
/// [`TimestampError::Range`] outside the years 0 to 9999.
pub fn time(at: Timestamp) -> Result<Vec<u8>, TimestampError> {
    let date = at.calendar()?;
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (date.hour(), date.minute(), date.second());
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if (1950..2050).contains(&year) {
        return Ok(element(tag::UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()));
    }
    Ok(element(tag::GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()))
}
