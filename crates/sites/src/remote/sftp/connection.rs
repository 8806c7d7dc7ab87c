//! The connection to an SFTP server: a child process `ssh` that ends with this one.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::{Error, Sftp, SftpOptions};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

use crate::error::Cause;
use crate::trouble::{ServiceFailure, Trouble};
use crate::url::SftpPlace;

/// How much of ssh's words is kept.
const WORDS_MAX: usize = 4096;
/// How long ssh may take to end, once its output has.
const END_WAIT: Duration = Duration::from_secs(2);

/// One connection, opened when it is needed and again when it broke.
#[derive(Debug)]
pub(super) struct Connection {
    place: SftpPlace,
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
}

struct Open {
    sftp: Sftp,
    /// Killed when the last user is gone.
    _child: Child,
    words: Words,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// What ssh says.
type Words = Arc<Mutex<String>>;

impl Connection {
    pub(super) fn new(place: SftpPlace) -> Self {
        Self { place, open: tokio::sync::Mutex::new(None) }
    }

    /// Asks the server something.
    pub(super) async fn run<T>(&self, ask: impl AsyncFnOnce(&Sftp) -> Result<T, Error>) -> Result<T, Cause> {
        let open = self.open().await.map_err(Cause::Service)?;
        match ask(&open.sftp).await {
            Ok(answer) => Ok(answer),
            Err(Error::SftpError(SftpErrorKind::NoSuchFile, _)) => Err(Cause::NotFound),
            Err(error @ Error::SftpError(..)) => Err(Cause::Service(refused(&error))),
            Err(error @ (Error::UnsupportedExtension(_) | Error::UnsupportedSftpProtocol { .. })) => {
                Err(Cause::Service(ServiceFailure::new(Trouble::Unclear, &error.to_string())))
            }
            Err(error) => {
                // The next one who asks connects anew.
                self.open.lock().await.take_if(|current| Arc::ptr_eq(current, &open));
                Err(Cause::Service(broken(&said(&open.words), &error)))
            }
        }
    }

    async fn open(&self) -> Result<Arc<Open>, ServiceFailure> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref() {
            return Ok(open.clone());
        }
        let fresh = Arc::new(connect(&self.place).await?);
        Ok(open.insert(fresh).clone())
    }
}

async fn connect(place: &SftpPlace) -> Result<Open, ServiceFailure> {
    let mut child = command(place).spawn().map_err(|error| {
        let said = format!("could not run ssh: {error}; install openssh-client");
        ServiceFailure::new(Trouble::Setting, &said)
    })?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(ServiceFailure::new(Trouble::Unclear, "ssh has no input, output or errors"));
    };
    let words = Words::default();
    // Ends when ssh does, which ends with `child`.
    let listener = tokio::spawn(listen(errors, words.clone()));
    match Sftp::new(input, output, SftpOptions::default()).await {
        Ok(sftp) => Ok(Open { sftp, _child: child, words }),
        Err(error) => {
            // What it says comes before its end.
            let _ = tokio::time::timeout(END_WAIT, child.wait()).await;
            let _ = tokio::time::timeout(END_WAIT, listener).await;
            Err(broken(&said(&words), &error))
        }
    }
}

/// The call of ssh. It never asks anything, and nothing of the URL can be taken for an option.
fn command(place: &SftpPlace) -> Command {
    let mut command = Command::new("ssh");
    for option in [
        "BatchMode=yes",
        "ConnectTimeout=15",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "EscapeChar=none",
    ] {
        command.arg("-o").arg(option);
    }
    if let Some(port) = place.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &place.user {
        command.arg("-l").arg(user);
    }
    if let Some(key) = &place.key {
        command.arg("-o").arg("IdentitiesOnly=yes").arg("-i").arg(key);
    }
    if let Some(file) = &place.known_hosts {
        command.arg("-o").arg(format!("UserKnownHostsFile={}", quoted(file)));
    }
    command.arg("-s").arg("--").arg(&place.host).arg("sftp");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C is for this process, which ends its work in order.
    command.process_group(0);
    command
}

/// A file name as ssh's configuration reads it; ssh itself replaces %.
fn quoted(file: &str) -> String {
    format!("\"{}\"", file.replace('%', "%%"))
}

async fn listen(mut errors: ChildStderr, words: Words) {
    let mut piece = [0; 512];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() < WORDS_MAX {
            words.push_str(&String::from_utf8_lossy(piece.get(..count).unwrap_or_default()));
        }
    }
}

fn said(words: &Words) -> String {
    words.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned()
}

fn broken(said: &str, error: &Error) -> ServiceFailure {
    if said.is_empty() { ServiceFailure::of_way(error) } else { ServiceFailure::of_words(said) }
}

/// What the server itself refuses.
fn refused(error: &Error) -> ServiceFailure {
    let trouble = match error {
        Error::SftpError(SftpErrorKind::PermDenied, _) => Trouble::Forbidden,
        // Version 3 of the protocol has one word for a full disk, a quota and all else.
        _ => Trouble::Unclear,
    };
    ServiceFailure::new(trouble, &error.to_string())
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::SftpError(SftpErrorKind::NoSuchFile, _))
}

pub(super) fn is_failure(error: &Error) -> bool {
    matches!(error, Error::SftpError(SftpErrorKind::Failure, _))
}
