//! Every example runs, and what it computes is right: each checks its own outcome.
// Neither the models nor the mutants are built with the examples.
#![cfg(not(any(loom, shm_mutants)))]

#[test]
fn every_example_runs_to_a_good_end() {
    shm_testing::run_examples(env!("CARGO_MANIFEST_DIR"));
}
