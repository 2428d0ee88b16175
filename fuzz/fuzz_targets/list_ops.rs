//! Operations on lists and dictionaries inside of each other, against a tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: shm_fuzz::ListScript| shm_fuzz::list_ops(&script));
