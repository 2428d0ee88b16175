//! Under construction.
pub mod linearizability;
