//! The functions of `_lifecycle`.
