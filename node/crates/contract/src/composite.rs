//! Keys made of parts, which can be searched by their first parts: U+0000, then each part
//! followed by U+0000 (Fabric: fabric-chaincode-go shim/stub.go CreateCompositeKey). As plain keys
//! must not begin with U+0000, the two kinds never meet.

use crate::ContractError;

const MIN: char = '\0';
/// Sorts after every character that a part may hold.
const MAX: char = char::MAX;

/// A composite key.
pub(crate) fn join(object_type: &str, attributes: &[&str]) -> Result<String, ContractError> {
    let length = attributes.iter().map(|a| a.len() + 1).sum::<usize>();
    let mut key = String::with_capacity(object_type.len() + 2 + length);
    key.push(MIN);
    for part in std::iter::once(&object_type).chain(attributes) {
        check_part(part)?;
        key.push_str(part);
        key.push(MIN);
    }
    Ok(key)
}

/// The type and attributes of a composite key.
pub(crate) fn split(key: &str) -> Result<(String, Vec<String>), ContractError> {
    let not_composite =
        || ContractError::Key { key: key.to_owned(), reason: "is not a composite key" };
    let body = key.strip_prefix(MIN).and_then(|k| k.strip_suffix(MIN)).ok_or_else(not_composite)?;
    let mut parts = body.split(MIN).map(str::to_owned);
    let object_type = parts.next().ok_or_else(not_composite)?;
    Ok((object_type, parts.collect()))
}

/// The range of composite keys that begin with these parts.
pub(crate) fn range(
    object_type: &str,
    attributes: &[&str],
) -> Result<(String, String), ContractError> {
    let start = join(object_type, attributes)?;
    let mut end = start.clone();
    end.push(MAX);
    Ok((start, end))
}

/// Checks a key that a plain value is written to or read from.
pub(crate) fn check_key(key: &str) -> Result<(), ContractError> {
    if key.is_empty() {
        return Err(ContractError::Key { key: String::new(), reason: "is empty" });
    }
    Ok(())
}

/// Checks a bound of a range of plain keys.
pub(crate) fn check_bound(key: &str) -> Result<(), ContractError> {
    if key.starts_with(MIN) {
        let reason = "begins with U+0000, which is kept for composite keys";
        return Err(ContractError::Key { key: key.to_owned(), reason });
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), ContractError> {
    if part.contains([MIN, MAX]) {
        let reason = "holds U+0000 or U+10FFFF, which a part of a composite key must not";
        return Err(ContractError::Key { key: part.to_owned(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn form() {
        assert_eq!(join("owner~id", &["ann", "a1"]).unwrap(), "\0owner~id\0ann\0a1\0");
        assert_eq!(
            range("owner~id", &["ann"]).unwrap(),
            ("\0owner~id\0ann\0".to_owned(), "\0owner~id\0ann\0\u{10ffff}".to_owned())
        );
        assert!(join("a\0b", &[]).is_err());
        assert!(join("a", &["\u{10ffff}"]).is_err());
        assert!(split("plain").is_err());
    }

    proptest! {
        #[test]
        fn split_undoes_join(parts in prop::collection::vec("[^\0\u{10ffff}]{0,8}", 1..5)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let key = join(parts[0], &parts[1..]).unwrap();
            let (object_type, attributes) = split(&key).unwrap();
            prop_assert_eq!(object_type, parts[0]);
            prop_assert_eq!(attributes, parts[1..].to_vec());
        }

        #[test]
        fn a_range_holds_the_longer_keys(
            first in "[^\0\u{10ffff}]{0,8}",
            other in "[^\0\u{10ffff}]{0,8}",
            rest in "[^\0\u{10ffff}]{0,8}",
        ) {
            let (start, end) = range("t", &[&first]).unwrap();
            let inside = |key: String| start <= key && key < end;
            prop_assert!(inside(join("t", &[&first, &rest]).unwrap()));
            prop_assert_eq!(inside(join("t", &[&other, &rest]).unwrap()), first == other);
        }
    }
}
