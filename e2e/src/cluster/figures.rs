//! Figures that a run measures, printed in one form and kept in a file.

use std::io::Write;

/// Prints a figure, and appends it to the file of `$E2E_FIGURES` when that is set. A target is
/// told beside it and not insisted on: machines differ.
pub fn print(what: &str, value: f64, unit: &str, target: &str) {
    let line = format!("figure: {what}: {value:.1} {unit} (target {target})");
    println!("{line}");
    let Ok(path) = std::env::var("E2E_FIGURES") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        // The figure is on the terminal already.
        let _ = writeln!(file, "{line}");
    }
}
