//! The workflows of a vault, each on real sites and a real ledger.
//!
//! One binary: each would link the whole engine again, and building them took longer than running them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how to replay"
)]
#![allow(clippy::cast_possible_truncation, reason = "tests run on 64 bits")]

mod adversary;
mod half_made;
mod keys;
mod ledger_attacks;
mod life;
mod many_snapshots;
mod mount;
mod old_host_alive;
mod plain;
mod removal;
mod restore_in_place;
mod retention;
mod rotate;
mod scale;
mod site_changes;
mod support;
