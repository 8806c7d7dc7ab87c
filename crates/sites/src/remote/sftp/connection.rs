//! The connection to an SFTP server: a child process `ssh` that ends with this one.

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// How long the server may answer none of the calls that go over the connection.
    stall: Duration,
    /// Answers and parts of answers so far.
    answers: AtomicU64,
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
    pub(super) fn new(place: SftpPlace, stall: Duration) -> Self {
        Self { place, open: tokio::sync::Mutex::new(None), stall, answers: AtomicU64::new(0) }
    }

    /// Notes that the server answered, in the middle of a call too.
    pub(super) fn note_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a call as long as the server answers any: behind others on a slow line one has to wait its turn. None if it is silent.
    async fn while_it_answers<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        let mut asked = std::pin::pin!(asked);
        loop {
            let before = self.answers.load(Ordering::Relaxed);
            match tokio::time::timeout(self.stall, asked.as_mut()).await {
                Ok(answer) => {
                    self.note_answer();
                    return Some(answer);
                }
                Err(_elapsed) if self.answers.load(Ordering::Relaxed) == before => return None,
                Err(_elapsed) => {}
            }
        }
    }

    /// Asks the server something.
    pub(super) async fn run<T>(&self, ask: impl AsyncFnOnce(&Sftp) -> Result<T, Error>) -> Result<T, Cause> {
        let open = self.open().await.map_err(Cause::Service)?;
        let Some(answer) = self.while_it_answers(ask(&open.sftp)).await else {
            self.forget(&open).await;
            return Err(Cause::Deadline { allowed: self.stall });
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(Error::SftpError(SftpErrorKind::NoSuchFile, _)) => Err(Cause::NotFound),
            Err(error @ Error::SftpError(..)) => Err(Cause::Service(refused(&error))),
            Err(error @ (Error::UnsupportedExtension(_) | Error::UnsupportedSftpProtocol { .. })) => {
                Err(Cause::Service(ServiceFailure::new(Trouble::Unclear, &error.to_string())))
            }
            Err(error) => {
                self.forget(&open).await;
                Err(Cause::Service(broken(&said(&open.words), &error)))
            }
        }
    }

    /// The next one who asks connects anew.
    async fn forget(&self, open: &Arc<Open>) {
        self.open.lock().await.take_if(|current| Arc::ptr_eq(current, open));
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

/// Variables of the environment that ssh, and what its configuration runs, has no business with.
const SECRETS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// True for a variable that is ours or holds a secret of another site.
fn is_kept_back(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"BLOCKHOUSE_") || SECRETS.iter().any(|secret| variable == *secret)
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
    for (variable, _) in std::env::vars_os().filter(|(variable, _)| is_kept_back(variable)) {
        command.env_remove(variable);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_told_no_secret_of_ours() {
        let kept_back = |variable: &str| is_kept_back(OsStr::new(variable));
        let secrets =
            ["BLOCKHOUSE_PASSPHRASE", "BLOCKHOUSE_SITE_DAV_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        assert!(secrets.into_iter().all(kept_back));
        assert!(!["HOME", "PATH", "SSH_AUTH_SOCK", "AWS_REGION"].into_iter().any(kept_back));
    }
}
