//! Many small files with sizes as they occur, many tiny, few large: seven of ten are words in random order, which no
//! compressor can learn more about than their list; the others are entropy. One symbolic and one hard link.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::{Entropy, create, text};

const FOLDERS: u64 = 97;

pub(crate) fn generate(folder: &Path, total: u64, count: u64) -> Result<()> {
    let mut entropy = Entropy::new(11);
    for number in 0..count {
        let path = path_of(folder, number);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
        let content = content(total / count.max(1), &mut entropy);
        let mut file = create(&path)?;
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number);
        file.write_all(&content)
            .and_then(|()| file.set_modified(modified))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    fs::hard_link(path_of(folder, 0), folder.join("hard-link"))
        .and_then(|()| std::os::unix::fs::symlink("000", folder.join("symbolic-link")))
        .with_context(|| format!("could not make links in {}", folder.display()))
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{:03}/{number:06}", number % FOLDERS))
}

/// A length with an exponential distribution around the mean.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a length that is right to a few bytes"
)]
fn content(mean: u64, entropy: &mut Entropy) -> Vec<u8> {
    let length = (-(1.0 - entropy.unit()).ln() * mean as f64) as usize + 16;
    if entropy.chance(70) { text(length / 5, entropy) } else { entropy.bytes(length) }
}
