//! Sizes as Kubernetes writes them.

/// The number of bytes that a quantity such as `10Gi`, `1.5G` or `500M` stands for; `None` for
/// what is not one (Kubernetes: `apimachinery/pkg/api/resource/quantity.go`).
pub fn bytes(text: &str) -> Option<u128> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = factor(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let nothing = number.is_empty() || number == ".";
    let fraction = part.checked_mul(factor)?.checked_div(scale)?;
    if nothing { None } else { whole.checked_mul(factor)?.checked_add(fraction) }
}

fn factor(suffix: &str) -> Option<u128> {
    let power = |base: u128, exponent| base.checked_pow(exponent);
    match suffix {
        "" => Some(1),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => power(10, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_read() {
        assert_eq!(bytes("10Gi"), Some(10 << 30));
        assert_eq!(bytes("1.5G"), Some(1_500_000_000));
        assert_eq!(bytes("0.5Ki"), Some(512));
        assert_eq!(bytes("1e3"), Some(1000));
        assert_eq!(bytes("12"), Some(12));
        for wrong in ["", ".", "Gi", "10Q", "1.2.3", "-1Gi"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
