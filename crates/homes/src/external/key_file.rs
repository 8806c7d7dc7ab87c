//! The file of an account's secret key, as Ethereum's tools write it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blockhouse_crypto::{AccountSecret, Secret};
use zeroize::Zeroizing;

/// More than `0x`, 64 digits and a line break.
const KEY_FILE_MAX: u64 = 128;

/// Why a file gives no account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    #[error("could not read the key {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} may be read by others: its mode is {mode:o}, it must be 600", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} holds no secret key of an account: 64 hex digits are one", path.display())]
    Form { path: PathBuf },
}

/// The account whose key is in that file, which its owner alone may read.
pub fn read_account_key(path: &Path) -> Result<AccountSecret, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    parse_account_key(&text).ok_or_else(|| KeyFileError::Form { path: path.to_owned() })
}

/// The account of a key in hex, with or without `0x`.
pub fn parse_account_key(text: &str) -> Option<AccountSecret> {
    let digits = text.trim();
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut *bytes).ok()?;
    AccountSecret::try_new(&Secret::new(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_of_its_owner_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str, mode| {
            std::fs::write(file.path(), text).unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            read_account_key(file.path())
        };
        let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let account = write(&format!("0x{key}\n"), 0o600).unwrap().account().to_string();
        assert_eq!(account, "f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        assert!(matches!(write(key, 0o644), Err(KeyFileError::Open { mode: 0o644, .. })));
        for wrong in ["", "0x12", &key[1..], &"0".repeat(64), &format!("{key}00")] {
            assert!(matches!(write(wrong, 0o600), Err(KeyFileError::Form { .. })), "{wrong}");
        }
    }
}
