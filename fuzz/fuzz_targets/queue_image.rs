//! Any bytes as a queue, and queues with bytes changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|attack: shm_fuzz::QueueAttack| shm_fuzz::queue_image(&attack));
