//! Epochs of a folder that lie before another, and the journals of those that are over.
//!
//! - **Owns** which folders these are, and the removal of what nobody reads any more: the votes of an epoch in whose engine nobody is.
//! - **Does not** touch `node` and `over`: they say for ever that the identity was in that epoch.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sync;

/// What a journal is called from the instant at which it is none any more.
const GONE: &str = "journal.over";

/// The folders of earlier epochs, in no order.
pub(super) fn epochs_before(path: &Path, epoch: u64) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut before = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("epoch-")?.parse::<u64>().ok());
        before.extend(number.filter(|number| *number < epoch).map(|number| (number, entry.path())));
    }
    Ok(before)
}

/// Removes the journals of the epochs before this one, which has its own: the ledger passed their closing blocks, durably. Should it ever be put
/// back to before one of them, the identity is silent there, as after any lost journal.
pub(super) fn remove_journals(path: &Path, epoch: u64) -> io::Result<()> {
    for (_, folder) in epochs_before(path, epoch)? {
        let gone = folder.join(GONE);
        // A kill may have left it.
        remove_all(&gone)?;
        match fs::rename(folder.join("journal"), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            renamed => renamed?,
        }
        // Its name goes first, for good: half a journal must never be taken for one.
        sync(&folder)?;
        remove_all(&gone)?;
    }
    Ok(())
}

fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
