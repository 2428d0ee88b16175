//! Any bytes as keys and values of any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|encoded: shm_fuzz::DynamicBytes| shm_fuzz::dynamic_decode(&encoded));
