//! Any bytes as a segment.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shm_fuzz::segment_image(data));
