//! Random bytes from the process' cryptographic generator.

/// The system could not give random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {wanted} random bytes")]
pub struct RandomError {
    /// How many bytes were asked for.
    pub wanted: usize,
}

/// `N` random bytes that are fit for keys, nonces and serial numbers.
///
/// # Errors
/// [`RandomError`] when the generator cannot be seeded.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    aws_lc_rs::rand::fill(&mut out).map_err(|_| RandomError { wanted: N })?;
    Ok(out)
}
