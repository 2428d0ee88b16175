//! Any bytes as a dictionary, and dictionaries with bytes changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|attack: shm_fuzz::DictAttack| shm_fuzz::dict_image(&attack));
