//! The controllers, a folder a kind.
