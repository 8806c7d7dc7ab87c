//! The licences of everything that is linked into the binary, as cargo knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The page `copyright` of the package: ours, and each dependency with its licence.
pub(super) fn copyright() -> Result<String> {
    let told = super::text_of(&mut process::cargo("metadata --format-version 1 --locked --offline")?)?;
    let metadata: Value = serde_json::from_str(&told).context("cargo's metadata cannot be read")?;
    Ok(page(&linked(&metadata)?))
}

/// Dependencies by licence, each with its version.
type ByLicence = BTreeMap<String, BTreeSet<String>>;

/// What the binary is made of: its package and all that it needs, but not what only builds or tests need.
fn linked(metadata: &Value) -> Result<ByLicence> {
    let packages = metadata["packages"].as_array().context("there are no packages")?;
    let by_id: BTreeMap<&str, &Value> =
        packages.iter().filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array).context("there is no graph")?;
    let nodes: BTreeMap<&str, &Value> = nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let is_ours = |id: &&&str| by_id.get(**id).is_some_and(|package| package["name"] == "blockhouse");
    let mut waiting: Vec<&str> = vec![*by_id.keys().find(is_ours).context("blockhouse is not among the packages")?];
    let (mut seen, mut all) = (BTreeSet::new(), ByLicence::new());
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let package = by_id.get(id).context("the graph names a package that is not there")?;
        if package["source"].is_string() {
            let licence = package["license"].as_str().unwrap_or("see its source").replace('/', " OR ");
            let text = |key: &str| package[key].as_str().unwrap_or_default();
            all.entry(licence).or_default().insert(format!("{} {}", text("name"), text("version")));
        }
        let needed = nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let is_linked = |dep: &&Value| {
            let kinds = dep["dep_kinds"].as_array();
            kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        };
        waiting.extend(needed.filter(is_linked).filter_map(|dep| dep["pkg"].as_str()));
    }
    Ok(all)
}

fn page(all: &ByLicence) -> String {
    let mut page = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: blockhouse
Comment: The binary is linked with the Rust crates below, each under its own licence. Their texts stand in their
 sources on crates.io, at the version that is named.

Files: *
Copyright: the Blockhouse authors
License: MIT or Apache-2.0
 At the user's choice. Apache-2.0: /usr/share/common-licenses/Apache-2.0. MIT:
 .
",
    );
    for line in include_str!("../../../LICENSE-MIT").lines() {
        let line = if line.trim().is_empty() { "." } else { line };
        let _ = writeln!(page, " {line}");
    }
    for (number, (licence, crates)) in all.iter().enumerate() {
        let _ = write!(
            page,
            "\nFiles: linked-crates-{}\nCopyright: their authors\nLicense: {licence}\nComment:\n",
            number + 1
        );
        for name in crates {
            let _ = writeln!(page, " {name}");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_linked_is_named_and_what_only_builds_or_tests_is_not() {
        let package = |name: &str, source: Value| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source });
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("blockhouse", Value::Null), package("inner", Value::Null), package("used", "r".into()), package("builds", "r".into()), package("tests", "r".into())],
            "resolve": { "nodes": [
                { "id": "blockhouse", "deps": [dep("inner", Value::Null), dep("tests", "dev".into())] },
                { "id": "inner", "deps": [dep("used", Value::Null), dep("builds", "build".into())] },
                { "id": "used", "deps": [] },
            ] },
        });
        let all = linked(&metadata).unwrap();
        assert_eq!(all, ByLicence::from([("MIT OR Apache-2.0".to_owned(), BTreeSet::from(["used 1.0.0".to_owned()]))]));
        let page = page(&all);
        assert!(
            page.contains("License: MIT OR Apache-2.0\nComment:\n used 1.0.0\n")
                && page.contains("Permission is hereby"),
            "{page}"
        );
    }
}
