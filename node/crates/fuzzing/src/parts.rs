//! Inputs that hold several messages.

/// Bytes before a part: what it is, and its length.
const HEAD: usize = 3;
/// Messages of one input: a finding needs few, and each may cost a signature.
const MOST: usize = 24;

/// The parts of an input, one after another: a byte that says what it is, two bytes of length (big
/// endian), the part. The last one ends with the input, whatever its length says.
pub(crate) fn split(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data;
    let next = move || {
        let (head, left) = rest.split_at_checked(HEAD)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let (part, left) = left.split_at(length.min(left.len()));
        rest = left;
        Some((head[0], part))
    };
    std::iter::from_fn(next).take(MOST)
}

/// An input whose first byte is `first`, of parts.
///
/// # Panics
/// Where a part is longer than its length can say.
#[must_use]
pub fn join(first: u8, parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut input = vec![first];
    for (kind, part) in parts {
        input.push(*kind);
        input.extend(u16::try_from(part.len()).expect("a short part").to_be_bytes());
        input.extend(part);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_again() {
        let parts = [(7, b"seven".to_vec()), (0, Vec::new()), (255, vec![1, 2])];
        let input = join(9, &parts);
        let found: Vec<_> = split(&input[1..]).map(|(kind, part)| (kind, part.to_vec())).collect();
        assert_eq!(found, parts);
    }

    #[test]
    fn the_last_part_may_be_short() {
        let found: Vec<_> = split(&[1, 0xff, 0xff, 4, 5]).collect();
        assert_eq!(found, [(1, &[4, 5][..])]);
        assert_eq!(split(&[1, 0]).count(), 0);
    }
}
