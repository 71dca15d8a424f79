//! placeholder header for what follows: what breaks while bytes arrive.
