//! Discovery: what clients ask to find out whom to talk to (Fabric: discovery).

pub mod analysis;
pub mod endorsers;
pub mod principals;
