//! The channels of a node, as one state machine for orderers and peers. No I/O, no clock.
//!
//! ```text
//!            join, found                     opened
//!   (none) ──────────────▶ Joining ─────────────────────────▶ Running
//!      ▲                   │     │                            │  │  ▲
//!      │ a failed join     │     │ the ledger was there       │  │  │ opened
//!      │ that made its     │     ▼                            │  │  │
//!      ├───────────────────┘   Failed ◀───────────────────────┘  │  │
//!      │ ledger                │  │ ▲  └── at its retry ──────────┼──┘
//!      │                       │  │ └─ the ledger stays           │
//!      └────────── Leaving ◀───┘  └───────────────────────────────┘
//! ```
//!
//! [`Channels`] decides; its owner opens stores, starts and stops what runs, and reports what
//! became of it. Whatever has a state is shown: a channel that has failed, or is opened again,
//! is listed with the reason, and nobody can join over it.
//!
//! A ledger is deleted only with a [`Removal`], and there are two ways to one: an administrator
//! leaves the channel, or an attempt failed that itself [`Created`] the ledger. A ledger that was
//! [`Opened::Found`] has no such token, so that no failure can end in its deletion.
//!
//! Every attempt has a [`Run`]. Reports of an earlier run change nothing.

mod cure;
pub mod memory;
mod states;
mod stores;

pub use cure::Cure;
pub use states::{
    Aftermath, Backoff, Channels, Failure, JoinRefused, LeaveRefused, Left, Retry, Run, State,
};
pub use stores::{Created, Opened, Removal, Stores};
