//! A virtual machine's disk image: 45 % holes, 10 % written zeros, 25 % text-like and repeating, 20 % entropy.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::{Entropy, create, overwrite, text};

const PAGE: u64 = 4096;
const NAME: &str = "disk.img";

pub(crate) fn generate(folder: &Path, total: u64) -> Result<()> {
    let path = folder.join(NAME);
    let mut file = create(&path)?;
    write(&mut file, total).with_context(|| format!("could not write {}", path.display()))
}

pub(crate) fn change(folder: &Path, total: u64) -> Result<u64> {
    let path = folder.join(NAME);
    let mut entropy = Entropy::new(22);
    let written = overwrite(&path, PAGE, &mut entropy)?;
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&entropy.bytes(usize::try_from(total / 20).unwrap_or(usize::MAX))))
        .with_context(|| format!("could not append to {}", path.display()))?;
    Ok(written + total / 20)
}

fn write(file: &mut File, total: u64) -> std::io::Result<()> {
    let mut entropy = Entropy::new(21);
    let mut at = 0;
    while at < total {
        let length = (total - at).min(PAGE * (16 + entropy.below(2032)));
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        file.seek(SeekFrom::Start(at))?;
        match entropy.below(100) {
            0..45 => {}
            45..55 => file.write_all(&vec![0; bytes])?,
            55..80 => file.write_all(&repeating(bytes, &mut entropy))?,
            _ => file.write_all(&entropy.bytes(bytes))?,
        }
        at += length;
    }
    file.set_len(total)
}

/// Text and some entropy, three times over.
fn repeating(bytes: usize, entropy: &mut Entropy) -> Vec<u8> {
    let mut page = text(bytes / 24, entropy);
    entropy.append(&mut page, bytes / 8);
    let mut whole = page.repeat(3);
    whole.resize(bytes, 0);
    whole
}
