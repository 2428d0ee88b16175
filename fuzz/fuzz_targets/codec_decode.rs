//! Any bytes as keys and values.
#![no_main]

libfuzzer_sys::fuzz_target!(|encoded: shm_fuzz::Encoded| shm_fuzz::codec_decode(&encoded));
