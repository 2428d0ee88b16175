//! A queue and a queue of tasks, through two handles each, against models.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: shm_fuzz::QueueScript| shm_fuzz::queue_ops(&script));
