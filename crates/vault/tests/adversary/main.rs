//! What others may leave at the sites of a vault, and what a run must never repeat: through the whole of the workflows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod nonces;
mod poison;
#[path = "../support/requests.rs"]
mod requests;
mod world;
