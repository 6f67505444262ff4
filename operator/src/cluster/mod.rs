//! The plan carried out in a Kubernetes cluster.
//!
//! Pure parts say what there should be: [`names`], [`topology`] (nodes), [`resources`] (the
//! objects), [`identity`] (what goes into Secrets), [`conditions`] (what a status says).
//! [`apply`] and [`events`] write to the API server, [`ledger`] asks and changes the running
//! nodes. [`controllers`] bring them together, a folder a kind, five steps each: dereference, validate, build, apply, status.

pub mod apply;
pub mod conditions;
pub mod controllers;
pub mod election;
pub mod events;
pub mod identity;
pub mod ledger;
pub mod metrics;
pub mod names;
pub mod resources;
pub mod run;
pub mod topology;

#[cfg(test)]
pub(crate) mod testing;
