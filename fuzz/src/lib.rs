//! The modules under test. They are links to their sources in `shared`, whose other dependencies take minutes to build with a
//! sanitizer. Used by the targets of this folder. They may use nothing of `shared` but one another.

pub mod completeness;
pub mod frames;
pub mod media;
pub mod packets;
