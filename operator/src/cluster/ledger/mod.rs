//! Asking and changing the running nodes of a network: connections, observation, convergence.
