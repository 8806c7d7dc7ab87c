//! The workflows: init, back up, restore, verify, repair, recover.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod backup;
pub mod blocks;
pub mod cache;
mod catalog;
mod chain;
pub mod folder;
mod health;
pub mod index;
pub mod init;
pub mod keys;
pub mod ledger;
pub mod lists;
pub mod maps;
pub mod mount;
pub mod objects;
pub mod plain;
pub mod progress;
pub mod publish;
pub mod reader;
pub mod receipt;
pub mod recipients;
pub mod recording;
pub mod recover;
pub mod repair;
pub mod restore;
pub mod select;
pub mod sheet;
pub mod stripes;
pub mod unlock;
pub mod vault;
pub mod verify;
