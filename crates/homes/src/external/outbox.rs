//! The outbox: what was sent to the chain and is not final yet, in one file of the vault folder.
//!
//! - **Owns** the file, its lock among the processes of this host, and how it is written.
//! - **Does not** send.
//!
//! # Invariants
//! - **O1** The file is replaced whole and durably: a kill leaves the old one or the new one.
//! - **O2** Who chooses a nonce holds the lock until the transaction with it is in the file.
//!
//! Format: `docs/design/host-files.md`, section *Outbox*.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use serde::{Deserialize, Serialize};

use super::error::ExternalError;
use super::fees::Fees;

const VERSION: u32 = 1;
/// The greatest length of the file: many times what the longest batch needs.
const OUTBOX_MAX: usize = 64 * 1024 * 1024;

/// How often the lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What was sent and is not final yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbox {
    version: u32,
    /// The final block that this host acted on last: X1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    /// In the order in which they were sent.
    pub(super) waiting: Vec<Waiting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settled {
    height: u64,
    hash: B256,
}

/// A transaction in all its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    pub(super) account: Address,
    pub(super) nonce: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Address>,
    pub(super) value: U256,
    pub(super) input: Bytes,
    pub(super) gas: u64,
    /// The forms that were signed, the newest last; never empty.
    pub(super) forms: Vec<Form>,
}

/// One signed form of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub(super) hash: B256,
    pub(super) raw: Bytes,
    pub(super) fees: Fees,
}

impl Outbox {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > OUTBOX_MAX {
            return Err(format!("it has {} bytes, the limit is {OUTBOX_MAX}", bytes.len()));
        }
        let outbox: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if outbox.version != VERSION {
            return Err(format!("it has version {}, this release reads {VERSION}", outbox.version));
        }
        for waiting in &outbox.waiting {
            if waiting.forms.is_empty() || waiting.forms.iter().any(|form| keccak256(&form.raw) != form.hash) {
                return Err(format!("transaction {} of {} is not whole", waiting.nonce, waiting.account));
            }
        }
        Ok(outbox)
    }

    /// The final block that was acted on last.
    pub(super) fn settled(&self) -> Option<(u64, B256)> {
        self.settled.map(|settled| (settled.height, settled.hash))
    }

    /// Takes out what is final: the transactions of an account below that nonce.
    pub(super) fn settle(&mut self, account: Address, nonce: u64, (height, hash): (u64, B256)) {
        self.waiting.retain(|waiting| waiting.account != account || waiting.nonce >= nonce);
        if self.settled.is_none_or(|settled| settled.height <= height) {
            self.settled = Some(Settled { height, hash });
        }
    }

    /// The nonce behind everything that is waiting here of an account.
    pub(super) fn next(&self, account: Address) -> u64 {
        self.of(account).map(|waiting| waiting.nonce.saturating_add(1)).max().unwrap_or(0)
    }

    /// What is waiting of an account.
    pub(super) fn of(&self, account: Address) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(move |waiting| waiting.account == account)
    }
}

/// True if these bytes are an outbox.
pub fn is_outbox(bytes: &[u8]) -> bool {
    Outbox::decode(bytes).is_ok()
}

/// The file.
#[derive(Debug)]
pub(super) struct OutboxFile {
    path: PathBuf,
}

/// No other process of this host changes the file while this is held.
#[derive(Debug)]
pub(super) struct Alone {
    _lock: File,
}

impl OutboxFile {
    pub(super) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Waits until no other process changes the file, but not longer than that.
    pub(super) async fn lock(&self, patience: Duration) -> Result<Alone, ExternalError> {
        let path = self.path.with_extension("lock");
        let failed = |source| ExternalError::Outbox { action: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let (file, started) = (file.map_err(failed)?, Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Alone { _lock: file }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => {
                    return Err(ExternalError::Busy { path });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            }
        }
    }

    /// What is in it; nothing if there is none.
    pub(super) fn read(&self) -> Result<Outbox, ExternalError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Outbox { version: VERSION, ..Outbox::default() });
            }
            Err(source) => return Err(self.failed("read", source)),
        };
        Outbox::decode(&bytes).map_err(|why| ExternalError::OutboxForm { path: self.path.clone(), why })
    }

    /// O1. The caller holds the lock.
    pub(super) fn write(&self, outbox: &Outbox, _: &Alone) -> Result<(), ExternalError> {
        let bytes = serde_json::to_vec(outbox).map_err(|error| self.failed("write", error.into()))?;
        replace(&self.path, &bytes).map_err(|source| self.failed("write", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ExternalError {
        ExternalError::Outbox { action, path: self.path.clone(), source }
    }
}

/// Beside it, synced, renamed over it, the folder synced. The name is this file's own: who writes holds the lock.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(account: u8, nonce: u64) -> Waiting {
        let raw = Bytes::from(vec![account, u8::try_from(nonce).unwrap()]);
        let fees = Fees::Dynamic { most: 3, tip: 1 };
        Waiting {
            account: Address::repeat_byte(account),
            nonce,
            to: None,
            value: U256::ZERO,
            input: Bytes::from_static(b"x"),
            gas: 1,
            forms: vec![Form { hash: keccak256(&raw), raw, fees }],
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_nonces_go_on_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = OutboxFile::at(folder.path().join("outbox"));
        let (one, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let mut outbox = file.read().unwrap();
        assert_eq!((outbox.next(one), outbox.settled()), (0, None));
        outbox.waiting = vec![waiting(1, 4), waiting(2, 9), waiting(1, 5)];
        let alone = file.lock(Duration::ZERO).await.unwrap();
        let busy = OutboxFile::at(folder.path().join("outbox")).lock(Duration::from_millis(30)).await;
        assert!(matches!(busy, Err(ExternalError::Busy { .. })), "{busy:?}");
        file.write(&outbox, &alone).unwrap();
        let mut read = file.read().unwrap();
        assert_eq!(read, outbox);
        assert_eq!((read.next(one), read.next(other)), (6, 10));
        read.settle(one, 5, (7, B256::repeat_byte(7)));
        assert_eq!(read.waiting, [waiting(2, 9), waiting(1, 5)]);
        read.settle(one, 6, (3, B256::repeat_byte(3)));
        assert_eq!(read.settled(), Some((7, B256::repeat_byte(7))), "what is final never goes back");
    }

    /// A byte of a transaction that changed would be sent in vain, and hold up all behind it.
    #[test]
    fn a_damaged_outbox_is_refused() {
        let outbox = Outbox { version: VERSION, settled: None, waiting: vec![waiting(1, 4)] };
        let good = serde_json::to_string(&outbox).unwrap();
        assert!(is_outbox(good.as_bytes()));
        for (from, to) in [("0x0104", "0x0105"), ("\"version\":1", "\"version\":2"), ("\"gas\"", "\"gos\"")] {
            let bad = good.replace(from, to);
            assert!(bad != good && !is_outbox(bad.as_bytes()), "{bad}");
        }
        let none = Outbox { waiting: vec![Waiting { forms: Vec::new(), ..waiting(1, 4) }], ..outbox };
        assert!(!is_outbox(&serde_json::to_vec(&none).unwrap()));
    }
}
