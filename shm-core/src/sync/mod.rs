//! temp
pub use std::sync::atomic::*;
