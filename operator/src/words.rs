//! Sentences for people.

/// A count with its noun: `1 peer`, `3 peers`. For nouns whose plural ends in `s`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0, "peer"), "0 peers");
        assert_eq!(counted(1, "peer"), "1 peer");
        assert_eq!(counted(2, "peer"), "2 peers");
    }
}
