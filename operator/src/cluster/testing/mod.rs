//! A Kubernetes API server in memory that fails, delays and reorders, for tests.
