//! The peer of a ledger network. Each module is one of its services or one step of a
//! transaction's way through it.

pub mod chaincode;
