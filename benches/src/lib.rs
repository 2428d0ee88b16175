//! Instruments of the benches.
