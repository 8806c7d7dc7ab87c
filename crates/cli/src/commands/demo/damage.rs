//! What a demo breaks.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Flips one byte in the middle of each file below a folder; how many there were.
pub(super) fn flip_in_each(folder: &Path) -> anyhow::Result<u64> {
    let mut flipped = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let failed = || format!("could not list {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let failed = || format!("could not change {}", path.display());
            let mut bytes = fs::read(&path).with_context(failed)?;
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
                flipped += 1;
            }
            // A new file in place of the old one: objects at a site are not writable.
            fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).with_context(failed)?;
        }
    }
    Ok(flipped)
}

/// Copies a receipt with one digit of the proved transaction receipt changed.
pub(super) fn flip_digit(from: &Path, to: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("could not read {}", from.display()))?;
    let key = "\"transaction_receipt\":\"0x";
    let Some((before, after)) = text.split_once(key) else { bail!("{} is no receipt", from.display()) };
    let at = after.find('"').map_or(0, |end| end / 2);
    let (left, right) = after.split_at_checked(at).context("the receipt is not text")?;
    let other = if right.starts_with('0') { '1' } else { '0' };
    let right: String = std::iter::once(other).chain(right.chars().skip(1)).collect();
    fs::write(to, format!("{before}{key}{left}{right}")).with_context(|| format!("could not write {}", to.display()))
}
