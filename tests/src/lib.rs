//! End-to-end tests: the real binary, real folders, real kills.
