//! Walking an encoded message along its shape.

use super::shape::{Field, Shape, Shapes};

/// Nesting that is followed. Decoding refuses more.
const MAX_DEPTH: usize = 100;

/// The message takes more than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded;

/// What a message takes in memory beside its bytes, as far as `limit`.
pub(super) fn cost(
    shapes: &Shapes,
    shape: &Shape,
    bytes: &[u8],
    limit: usize,
) -> Result<usize, Exceeded> {
    let mut walk = Walk { shapes, left: limit };
    walk.message(shape, bytes, 0)?;
    Ok(limit - walk.left)
}

struct Walk<'a> {
    shapes: &'a Shapes,
    left: usize,
}

/// A field as it is on the wire.
enum Wire<'a> {
    Number,
    Bytes(&'a [u8]),
    GroupStart,
    GroupEnd,
}

impl Walk<'_> {
    fn message(&mut self, shape: &Shape, mut bytes: &[u8], depth: usize) -> Result<(), Exceeded> {
        let (mut seen, mut groups) = (0u64, 0usize);
        while let Some((number, wire)) = next(&mut bytes) {
            match wire {
                Wire::GroupStart => groups += 1,
                Wire::GroupEnd if groups == 0 => return Ok(()),
                Wire::GroupEnd => groups -= 1,
                // What is in a group is unknown to every message, and dropped.
                _ if groups > 0 => {}
                Wire::Number => self.element(shape, number, &[], &mut seen, depth)?,
                Wire::Bytes(content) => self.element(shape, number, content, &mut seen, depth)?,
            }
        }
        Ok(())
    }

    fn element(
        &mut self,
        shape: &Shape,
        number: u32,
        content: &[u8],
        seen: &mut u64,
        depth: usize,
    ) -> Result<(), Exceeded> {
        let Some(field) = shape.fields.get(&number) else { return Ok(()) };
        let bit = 1u64.checked_shl(field.position).unwrap_or(0);
        let own = if *seen & bit == 0 { field.first } else { field.next };
        *seen |= bit;
        self.take(field, own, content.len())?;
        let child = field.child.and_then(|child| self.shapes.get(child));
        match child {
            Some(child) if depth < MAX_DEPTH => self.message(child, content, depth + 1),
            _ => Ok(()),
        }
    }

    fn take(&mut self, field: &Field, own: usize, length: usize) -> Result<(), Exceeded> {
        let taken = own.saturating_add(field.per_byte.saturating_mul(length));
        self.left = self.left.checked_sub(taken).ok_or(Exceeded)?;
        Ok(())
    }
}

/// The next field and its number; `None` at the end, and where the bytes are not an encoding.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    if bytes.is_empty() {
        return None;
    }
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok()?;
    let wire = match key & 7 {
        0 => varint(bytes).map(|_| Wire::Number)?,
        1 => split(bytes, 8).map(|_| Wire::Number)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Wire::Bytes(split(bytes, length)?)
        }
        3 => Wire::GroupStart,
        4 => Wire::GroupEnd,
        5 => split(bytes, 4).map(|_| Wire::Number)?,
        _ => return None,
    };
    Some((number, wire))
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

/// A varint of at most ten bytes (protobuf encoding, "Base 128 Varints").
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = bytes.split_first()?;
        *bytes = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
