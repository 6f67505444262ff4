//! The log specification's two forms, and their translation to filter directives. Pure.
//!
//! Fabric's form is `[module,…=]level[:[module,…=]level…]`, such as
//! `info:weft_peer,weft_rpc=debug`; a level alone is the default of all modules (Fabric:
//! `common/flogging`, `loglevels.go`). `tracing`'s form separates directives by commas, such
//! as `info,weft_peer=debug`. Modules may be written with dots or `::`, and `-` for `_`.
//! Fabric's levels `fatal`, `panic` and `dpanic` are `error` here, `warning` is `warn`.

/// Why a specification cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogSpecError {
    /// A level that is not known.
    #[error("invalid logging specification {spec:?}: bad segment {segment:?}: unknown level")]
    Level {
        /// The specification.
        spec: String,
        /// The part at fault.
        segment: String,
    },
    /// A module name that is not one.
    #[error("invalid logging specification {spec:?}: bad segment {segment:?}: bad module name")]
    Module {
        /// The specification.
        spec: String,
        /// The part at fault.
        segment: String,
    },
}

/// Translates a specification of either form to `tracing`'s directives, default level first.
/// An empty one is `info`.
///
/// # Errors
/// [`LogSpecError`] names the part at fault.
pub fn to_directives(spec: &str) -> Result<String, LogSpecError> {
    let mut default = "info";
    let mut modules = Vec::new();
    for segment in segments(spec) {
        let segment = segment.trim();
        let bad_level = || LogSpecError::Level { spec: spec.to_owned(), segment: segment.into() };
        match segment.split_once('=') {
            None if segment.is_empty() => {}
            None => default = level(segment).ok_or_else(bad_level)?,
            Some((names, text)) => {
                let level = level(text.trim()).ok_or_else(bad_level)?;
                for name in names.split(',') {
                    let name = module(name.trim()).ok_or_else(|| LogSpecError::Module {
                        spec: spec.to_owned(),
                        segment: segment.into(),
                    })?;
                    modules.push(format!("{name}={level}"));
                }
            }
        }
    }
    modules.insert(0, default.to_owned());
    Ok(modules.join(","))
}

/// The parts that hold one level each. In Fabric's form a comma separates modules of one
/// part; in `tracing`'s it separates parts, each with a level of its own. `::` separates
/// nothing.
fn segments(spec: &str) -> Vec<String> {
    let masked = spec.replace("::", "\u{0}");
    let mut all = Vec::new();
    for part in masked.split(':') {
        let mut modules = String::new();
        for piece in part.split(',') {
            let joined =
                if modules.is_empty() { piece.to_owned() } else { format!("{modules},{piece}") };
            // A module without a level waits for that of a later piece: `a,b=debug`.
            let complete = piece.contains('=') || level(piece.trim()).is_some();
            if complete {
                all.push(joined);
                modules.clear();
            } else {
                modules = joined;
            }
        }
        if !modules.is_empty() {
            all.push(modules);
        }
    }
    all.into_iter().map(|segment| segment.replace('\u{0}', "::")).collect()
}

fn level(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "off" => "off",
        "error" | "fatal" | "panic" | "dpanic" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

fn module(name: &str) -> Option<String> {
    let name = name.replace('.', "::").replace('-', "_");
    let valid = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.split("::").all(valid).then_some(name)
}
