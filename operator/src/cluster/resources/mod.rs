//! The Kubernetes objects of a network, built from validated input. Pure.
