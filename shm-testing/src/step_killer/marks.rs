//! The two marks around the operation that a victim performs.
//!
//! They are ordinary functions that do nothing; the tracer stops at their addresses by hardware
//! breakpoints. So they cost nothing in the library under test, and a victim that a person runs by
//! hand runs through.

use std::hint::black_box;

pub(super) const START: &str = "shm_testing_mark_start";
pub(super) const END: &str = "shm_testing_mark_end";

// The bodies differ, or the linker could fold the two into one address. The symbols bear the
// crate's name, so that they are nobody else's.

/// The operation begins when this returns. To be called once, on the main thread.
#[unsafe(export_name = "shm_testing_mark_start")]
#[inline(never)]
pub extern "C" fn mark_start() {
    black_box(1_u8);
}

/// The operation is over when this is called.
#[unsafe(export_name = "shm_testing_mark_end")]
#[inline(never)]
pub extern "C" fn mark_end() {
    black_box(2_u16);
}
