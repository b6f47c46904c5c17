//! Scout's store backends: one module each, one contract for all.
