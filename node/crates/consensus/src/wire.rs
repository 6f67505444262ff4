//! The few encodings that are ours: unsigned LEB128 numbers and length-prefixed bytes.
//!
//! Decoding is strict (the shortest form only, nothing left over) so that one value has one
//! encoding, and takes no memory that the input does not pay for.

use bytes::{Buf, Bytes};

/// Why bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends inside a value.
    #[error("it ends inside {0}")]
    Truncated(&'static str),
    /// A number is longer than it need be, or than 64 bits.
    #[error("{0} is not a canonical number")]
    Number(&'static str),
    /// Bytes follow the last value.
    #[error("{0} bytes are left over")]
    Trailing(usize),
}

/// Appends `value` as LEB128.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_number`] takes.
pub fn number_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes one byte.
pub fn take_byte(input: &mut Bytes, what: &'static str) -> Result<u8, WireError> {
    if input.is_empty() {
        return Err(WireError::Truncated(what));
    }
    Ok(input.get_u8())
}

/// Takes one number.
pub fn take_number(input: &mut Bytes, what: &'static str) -> Result<u64, WireError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input, what)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(WireError::Number(what));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            let padded = byte == 0 && shift > 0;
            return if padded { Err(WireError::Number(what)) } else { Ok(value) };
        }
    }
    Err(WireError::Number(what))
}

/// Takes length-prefixed bytes, without copying them.
pub fn take_bytes(input: &mut Bytes, what: &'static str) -> Result<Bytes, WireError> {
    let len = take_number(input, what)?;
    match usize::try_from(len) {
        Ok(len) if len <= input.len() => Ok(input.split_to(len)),
        _ => Err(WireError::Truncated(what)),
    }
}

/// Checks that nothing is left.
pub fn finish(input: &Bytes) -> Result<(), WireError> {
    if input.is_empty() { Ok(()) } else { Err(WireError::Trailing(input.len())) }
}
