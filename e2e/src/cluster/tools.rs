//! Programs that a user has: `kubectl`, `helm`, `openssl`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The root of the checkout: charts and examples are below it.
pub fn checkout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs `kubectl` and returns what it printed.
///
/// # Errors
/// When it fails: what it said.
pub fn kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("kubectl").args(arguments), "")
}

/// Runs `kubectl` with that text as its input.
///
/// # Errors
/// When it fails: what it said.
pub fn kubectl_with(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    run(Command::new("kubectl").args(arguments), input)
}

/// Runs the Helm of `$HELM`, or `helm`.
///
/// # Errors
/// When it fails: what it said.
pub fn helm(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    run(Command::new(program).args(arguments), "")
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails: what it said.
pub fn run(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {what}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input has ended; its status says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what} failed: {}{text}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
