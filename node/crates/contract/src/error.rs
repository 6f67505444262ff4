//! Errors of a transaction, as the client gets to see them.

use std::borrow::Cow;

/// Status of a response that tells a failure of no special kind.
const INTERNAL: i32 = 500;

/// Why a transaction is refused. The text and the status reach the client.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The contract refuses, by a rule of its own.
    #[error("{message}")]
    Rejected {
        /// Status of the response, 400 to 599.
        status: i32,
        /// What is refused, and why.
        message: String,
    },
    /// There is no function of this name.
    #[error("function {name:?} does not exist; this contract has {known}")]
    UnknownFunction {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The number of arguments is wrong.
    #[error("function {function} takes {expected} arguments, not {got}")]
    ArgumentCount {
        /// The function.
        function: String,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// An argument cannot be read.
    #[error("argument {index} of {function}: {reason}")]
    Argument {
        /// The function.
        function: String,
        /// Which argument, the first is 1.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A key, or a part of a composite key, breaks the rules.
    #[error("key {key:?} {reason}")]
    Key {
        /// The key or part.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value cannot be stored.
    #[error("the value of key {key:?} is empty, which cannot be told from a missing key")]
    EmptyValue {
        /// Its key.
        key: String,
    },
    /// A value is not the JSON it should be, or has no form in JSON.
    #[error("failed to {step} {what} as JSON: {source}")]
    Json {
        /// `read` or `write`.
        step: &'static str,
        /// The value.
        what: String,
        /// Where it failed, and why.
        #[source]
        source: serde_json::Error,
    },
    /// A message to the peer is larger than the limit.
    #[error("a message of {size} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer refused a request.
    #[error("{0}")]
    Peer(String),
    /// The connection to the peer has ended.
    #[error("the connection to the peer has ended")]
    Disconnected,
    /// A message of the peer is malformed.
    #[error("{0}")]
    Decode(#[source] weft_protos::ext::DecodeError),
    /// A called chaincode answered with an error.
    #[error("chaincode {chaincode} returned status {status}: {message}")]
    Called {
        /// The called chaincode.
        chaincode: String,
        /// Its status.
        status: i32,
        /// Its text.
        message: String,
    },
    /// The contract panicked.
    #[error("the contract failed unexpectedly: {0}")]
    Panicked(String),
}

impl ContractError {
    /// A refusal with status 500.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_status(INTERNAL, message)
    }

    /// A refusal because something is missing: status 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::with_status(404, message)
    }

    /// A refusal because something exists already or was changed: status 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::with_status(409, message)
    }

    /// A refusal because the creator may not do this: status 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::with_status(403, message)
    }

    /// A refusal because the arguments make no sense: status 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::with_status(400, message)
    }

    /// A refusal with a status of 400 to 599; any other becomes 500. Peers endorse responses
    /// below 400 only.
    pub fn with_status(status: i32, message: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { INTERNAL };
        Self::Rejected { status, message: message.into() }
    }

    /// The response's status: 400 where the caller is at fault.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self {
            Self::Rejected { status, .. } => *status,
            Self::UnknownFunction { .. }
            | Self::ArgumentCount { .. }
            | Self::Argument { .. }
            | Self::Key { .. }
            | Self::EmptyValue { .. } => 400,
            _ => INTERNAL,
        }
    }
}

impl From<String> for ContractError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for ContractError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<Cow<'_, str>> for ContractError {
    fn from(message: Cow<'_, str>) -> Self {
        Self::new(message)
    }
}
