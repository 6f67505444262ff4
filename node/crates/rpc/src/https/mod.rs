//! REST over the same TLS: serving an axum router, and a small client.

mod client;
mod server;

pub use client::{Client, ClientError, ClientOptions, Part, Response};
pub use server::{HttpsOptions, HttpsServer};
