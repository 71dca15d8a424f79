//! Placeholder header for the tests module here.
