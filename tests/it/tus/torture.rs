//! placeholder header for what follows: many uploads under attack.
