//! What others may leave at the sites of a vault, and what a run must never repeat: through the whole of the workflows.

mod nonces;
mod poison;
mod world;
