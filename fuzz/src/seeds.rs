//! Where seeds come from: the golden files of every format, as they are checked in.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of this package in the checkout that cargo was called in, which need not be the one this was built in.
#[must_use]
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// `crates/<name>`.
fn folder(name: &str) -> PathBuf {
    package().join("../crates").join(name)
}

/// A golden file of version 1.
pub(crate) fn golden(package: &str, file: &str) -> Vec<u8> {
    let path = folder(package).join("tests/fixtures/v1").join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}

/// All golden files in a folder, in the order of their names.
pub(crate) fn golden_folder(package: &str, name: &str) -> Vec<Vec<u8>> {
    let path = folder(package).join("tests/fixtures/v1").join(name);
    let mut files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The ids and keys of the golden files.
pub(crate) fn golden_json(package: &str, file: &str) -> Value {
    serde_json::from_slice(&golden(package, file)).unwrap()
}

/// Bytes that stand in JSON as hexadecimal digits, with or without `0x`.
pub(crate) fn hex32(value: &Value) -> [u8; 32] {
    let text = value.as_str().unwrap();
    hex::decode(text.trim_start_matches("0x")).unwrap().try_into().unwrap()
}
