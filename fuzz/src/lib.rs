//! The modules under test. They are links to their sources in `shared`, whose other dependencies take minutes to build with a
//! sanitizer. Used by the targets of this folder. They may use nothing of `shared` but themselves.

pub mod completeness;
pub mod media;
