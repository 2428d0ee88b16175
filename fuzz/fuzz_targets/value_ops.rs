//! Values, numbers and arrays, through two handles each, against models.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: shm_fuzz::Script| shm_fuzz::value_ops(&script));
