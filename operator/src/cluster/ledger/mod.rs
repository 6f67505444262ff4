//! Asking and changing the running nodes of a network: connections, observation, convergence.
//!
//! Nothing here knows of Kubernetes: plain values come in, calls go to nodes, findings go out.
//! Everything is level-triggered. A function looks at what is there, does what is missing as far
//! as it can be done now, and says what it waits for; it is called again and does the rest. No
//! call to a node takes longer than [`CALL`], several nodes are asked at once, and a node that
//! hangs holds up nothing but what needs that very node.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`access`] | connections, one a node and identity, kept between calls |
//! | [`observe`] | what nodes say of themselves: health, channels, heights, leader, certificate |
//! | [`exposition`] | pure: Prometheus' text format, read |
//! | [`joining`] | pure: which orderers join a channel with which block |
//! | [`consenters`] | pure: which change of a channel's consenters comes next |
//! | [`signatures`] | pure: whether those who sign here may change a config, and who else must |
//! | [`channel`] | doing: a channel from genesis to drift |
//! | [`collections`] | pure: the collections of a definition, and which changes of them a channel takes |
//! | [`chaincode`] | doing: a chaincode from package to definition |

use std::time::Duration;

pub mod access;
pub mod chaincode;
pub mod channel;
pub mod collections;
pub mod consenters;
mod error;
pub mod exposition;
pub mod joining;
pub mod observe;
pub mod signatures;

pub use access::{Access, Actor, Connections, NodeRef};
pub use error::LedgerError;
pub use observe::Observation;

/// Longest time for one call to a node.
pub const CALL: Duration = Duration::from_secs(5);

/// Something that comes about by itself, or when something else is mended: look again soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// One word in CamelCase, as conditions have it.
    pub reason: &'static str,
    /// One sentence for people, without a stop at its end.
    pub message: String,
}

/// A step that would do harm and is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One word in CamelCase, as conditions have it.
    pub reason: &'static str,
    /// One sentence for people, without a stop at its end.
    pub message: String,
}

impl Waiting {
    /// Waits for what `message` says.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Waiting {
        Waiting { reason, message: message.into() }
    }
}

impl Refused {
    /// Refuses for what `message` says.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Refused {
        Refused { reason, message: message.into() }
    }
}

/// An error with all of its causes, on one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = source.source();
    }
    text
}
