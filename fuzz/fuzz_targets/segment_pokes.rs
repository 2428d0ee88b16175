//! A segment that a process of the family made, with bytes changed before and after it is attached.
#![no_main]

libfuzzer_sys::fuzz_target!(|attack: shm_fuzz::Attack| shm_fuzz::segment_pokes(&attack));
