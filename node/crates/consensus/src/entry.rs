//! What is ordered: a batch of envelopes that will be one block.
//!
//! Encoding (version 1), all numbers LEB128: `version=1`, `kind` (0 normal, 1 config), `change`
//! (see [`Change::encode`]; absent from a normal entry), number of envelopes, then every envelope
//! behind its length. One entry has one encoding. Decoding slices the input and copies nothing.

use bytes::Bytes;

use crate::membership::Change;
use crate::wire::{self, WireError};

const VERSION: u8 = 1;
const NORMAL: u8 = 0;
const CONFIG: u8 = 1;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Transactions.
    Normal,
    /// One config envelope, alone in its block. Nothing else is proposed until it is applied.
    Config {
        /// What it does to the membership; takes effect as the entry is delivered.
        change: Change,
    },
}

/// A batch of envelopes to be ordered together: the data of one block, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub kind: EntryKind,
    /// Serialized `common.Envelope`s, opaque here. At least one; exactly one in a config entry.
    pub envelopes: Vec<Bytes>,
}

/// Why an entry is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A block without transactions is never made.
    #[error("it has no envelope")]
    NoEnvelope,
    /// An envelope without bytes is never valid.
    #[error("its envelope {0} is empty")]
    EmptyEnvelope(usize),
    /// A config envelope is alone in its block.
    #[error("it is a config entry with {0} envelopes")]
    ConfigNotAlone(usize),
    /// Not encoded by a version known here.
    #[error("its version {0} is unknown")]
    Version(u8),
    /// Neither normal nor config.
    #[error("its kind {0} is unknown")]
    Kind(u8),
    /// The bytes do not decode.
    #[error("it does not decode: {0}")]
    Wire(WireErrorText),
    /// The membership change inside does not decode.
    #[error("its membership change is malformed: {0}")]
    Change(String),
}

/// The text of a decoding failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireErrorText(String);

impl std::fmt::Display for WireErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn wire_error(error: WireError) -> EntryError {
    EntryError::Wire(WireErrorText(error.to_string()))
}

impl Entry {
    /// A batch of transactions.
    #[must_use]
    pub fn normal(envelopes: Vec<Bytes>) -> Self {
        Self { kind: EntryKind::Normal, envelopes }
    }

    /// A config envelope and what it does to the membership.
    #[must_use]
    pub fn config(envelope: Bytes, change: Change) -> Self {
        Self { kind: EntryKind::Config { change }, envelopes: vec![envelope] }
    }

    /// Whether it is a config entry.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self.kind, EntryKind::Config { .. })
    }

    /// The change of the membership that it brings; [`Change::None`] for normal entries.
    #[must_use]
    pub fn change(&self) -> &Change {
        match &self.kind {
            EntryKind::Normal => &Change::None,
            EntryKind::Config { change } => change,
        }
    }

    /// Bytes of all envelopes together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.envelopes.iter().map(Bytes::len).sum()
    }

    /// Checks the rules of the fields.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), EntryError> {
        if self.envelopes.is_empty() {
            return Err(EntryError::NoEnvelope);
        }
        if self.is_config() && self.envelopes.len() != 1 {
            return Err(EntryError::ConfigNotAlone(self.envelopes.len()));
        }
        match self.envelopes.iter().position(Bytes::is_empty) {
            Some(at) => Err(EntryError::EmptyEnvelope(at)),
            None => Ok(()),
        }
    }

    /// The encoding described in the module's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let framing: usize =
            self.envelopes.iter().map(|e| wire::number_len(e.len() as u64)).sum::<usize>();
        let mut out = Vec::with_capacity(self.size() + framing + 64);
        out.push(VERSION);
        match &self.kind {
            EntryKind::Normal => out.push(NORMAL),
            EntryKind::Config { change } => {
                out.push(CONFIG);
                change.encode(&mut out);
            }
        }
        wire::put_number(&mut out, self.envelopes.len() as u64);
        for envelope in &self.envelopes {
            wire::put_bytes(&mut out, envelope);
        }
        out
    }

    /// Reads an encoded entry and checks it.
    ///
    /// # Errors
    /// [`EntryError`] naming what is wrong.
    pub fn decode(bytes: Bytes) -> Result<Self, EntryError> {
        let mut input = bytes;
        let version = wire::take_byte(&mut input, "the version").map_err(wire_error)?;
        if version != VERSION {
            return Err(EntryError::Version(version));
        }
        let kind = Self::decode_kind(&mut input)?;
        let count = wire::take_number(&mut input, "the count").map_err(wire_error)?;
        // Every envelope takes two bytes at least, so the input bounds what is reserved.
        let room = usize::try_from(count).unwrap_or(usize::MAX).min(input.len() / 2);
        let mut envelopes = Vec::with_capacity(room);
        for _ in 0..count {
            envelopes.push(wire::take_bytes(&mut input, "an envelope").map_err(wire_error)?);
        }
        wire::finish(&input).map_err(wire_error)?;
        let entry = Self { kind, envelopes };
        entry.check()?;
        Ok(entry)
    }

    fn decode_kind(input: &mut Bytes) -> Result<EntryKind, EntryError> {
        match wire::take_byte(input, "the kind").map_err(wire_error)? {
            NORMAL => Ok(EntryKind::Normal),
            CONFIG => {
                let change =
                    Change::decode(input).map_err(|e| EntryError::Change(e.to_string()))?;
                Ok(EntryKind::Config { change })
            }
            other => Err(EntryError::Kind(other)),
        }
    }
}
