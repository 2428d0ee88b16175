//! A dictionary, through two handles, against a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: shm_fuzz::DictScript| shm_fuzz::dict_ops(&script));
