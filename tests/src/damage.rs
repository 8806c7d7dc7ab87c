//! What fails, lies or rots: changes to files that the product did not make.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::tree;

/// Flips one bit of a file at a place drawn by chance; the file keeps its length.
pub fn flip(path: &Path, random: &mut StdRng) {
    let mut bytes = fs::read(path).unwrap();
    let at = random.random_range(0..bytes.len());
    bytes[at] ^= 1 << random.random_range(0..8);
    fs::write(path, bytes).unwrap();
}

/// The objects of a site in one of its folders: `shards`, `blocks` and so on.
pub fn objects(site: &Path, folder: &str) -> Vec<PathBuf> {
    tree::files(&site.join(folder))
}

/// How many sites hold a shard of each stripe, by the stripe's name: a shard is `<stripe>-<index>`.
pub fn stripes(sites: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut shards: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for shard in sites.iter().flat_map(|site| objects(site, "shards")) {
        let name = shard.file_name().unwrap().to_string_lossy().into_owned();
        let (stripe, index) = name.split_once('-').unwrap();
        shards.entry(stripe.to_owned()).or_default().insert(index.to_owned());
    }
    shards.into_iter().map(|(stripe, indices)| (stripe, indices.len())).collect()
}

/// Where `needle` is in `hay`.
pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
