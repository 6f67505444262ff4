//! The plan carried out in a Kubernetes cluster.
//!
//! Pure parts say what there should be: [`names`], [`topology`] (nodes), [`resources`] (the
//! objects), [`identity`] (what goes into Secrets), [`conditions`] (what a status says).
//! [`ledger`] asks and changes the running nodes. [`controllers`] bring both together, a folder
//! a kind, five steps each: dereference, validate, build, apply, status.

pub mod conditions;
pub mod controllers;
pub mod identity;
pub mod ledger;
pub mod names;
pub mod resources;
pub mod topology;

#[cfg(test)]
mod testing;
