//! A stream as a source: what this program is given on its standard input, or what a command writes.
//!
//! - **Owns** that a stream which did not come to a good end is an error, however much of it came.
//! - **Does not** cut or store: it hands out pieces as they come. No file is made of them.
//!
//! # Invariants
//! - **S1** The end of a stream is told only after its command has ended with exit code 0.
//! - **S2** At most [`QUEUE`] pieces of [`PIECE`] bytes wait in memory, however fast the stream is.
//! - **S3** A command that neither writes nor ends for its limit is ended with all that it started.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use crate::child::{HowEnded, Running, Waited};

/// No file system takes a longer name.
const NAME_MAX: usize = 255;
/// How much is read at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// How many pieces wait.
const QUEUE: usize = 32;
/// How often somebody who asks to stop is heard.
const HEARING: Duration = Duration::from_millis(100);

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamOrigin {
    /// The standard input of this program.
    Stdin,
    /// What a command writes: its name and its arguments, never empty.
    Command(Vec<OsString>),
}

/// A stream that becomes one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSource {
    /// The name of the file.
    name: Vec<u8>,
    origin: StreamOrigin,
    /// Whether a stream without a byte is a file without a byte, and no error.
    pub allow_empty: bool,
    /// How long a command may neither write nor end.
    pub silence: Option<Duration>,
}

/// Why a stream is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    #[error("`{}` cannot be the name of the file that a stream becomes: give one name, without `/`", name.escape_ascii())]
    Name { name: Vec<u8> },
    #[error("no command was given whose output could be backed up")]
    NoCommand,
    #[error("could not start the command `{command}`")]
    Start {
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("could not read the stream of `{name}`")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the command `{command}` failed ({ended}): what it wrote is not backed up")]
    Failed { command: String, ended: HowEnded },
    #[error(
        "the command `{command}` neither wrote nor ended for {seconds} s and was stopped: what it wrote is not backed up"
    )]
    Silent { command: String, seconds: u64 },
    #[error("nothing came in the stream of `{name}`, which would be an empty file")]
    Empty { name: String },
    #[error("the stream was interrupted")]
    Interrupted,
}

impl StreamSource {
    /// A stream that becomes a file of this name.
    pub fn try_new(name: &OsStr, origin: StreamOrigin) -> Result<Self, StreamError> {
        let name = name.as_bytes().to_vec();
        let is_special = name.is_empty() || name == b"." || name == b"..";
        if is_special || name.len() > NAME_MAX || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(StreamError::Name { name });
        }
        if matches!(&origin, StreamOrigin::Command(words) if words.is_empty()) {
            return Err(StreamError::NoCommand);
        }
        Ok(Self { name, origin, allow_empty: false, silence: None })
    }

    /// The name of the file.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Where it comes from.
    pub const fn origin(&self) -> &StreamOrigin {
        &self.origin
    }

    /// What it is of, for people: the command, or the standard input.
    pub fn described(&self) -> String {
        match &self.origin {
            StreamOrigin::Stdin => "standard input".to_owned(),
            StreamOrigin::Command(words) => line(words),
        }
    }

    /// Starts the command, if it is one, and begins to read.
    pub fn open(&self) -> Result<Stream<'_>, StreamError> {
        let (sender, pieces) = sync_channel(QUEUE);
        let running = match &self.origin {
            StreamOrigin::Stdin => {
                std::thread::spawn(move || pump(io::stdin().lock(), &sender));
                None
            }
            StreamOrigin::Command(words) => {
                let (program, arguments) = words.split_first().ok_or(StreamError::NoCommand)?;
                let mut command = Command::new(program);
                command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
                let failed = |source| StreamError::Start { command: line(words), source };
                let mut running = Running::start(&mut command).map_err(failed)?;
                let stdout = running.take_stdout().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
                std::thread::spawn(move || pump(stdout, &sender));
                Some(running)
            }
        };
        Ok(Stream { source: self, running, pieces, is_empty: true })
    }
}

fn line(words: &[OsString]) -> String {
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Reads to the end, or until nobody listens any more.
fn pump(mut stream: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        match stream.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                if pieces.send(Ok(piece)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = pieces.send(Err(error));
                return;
            }
        }
    }
}

/// A stream that is being read. Dropped, its command is ended.
#[derive(Debug)]
pub struct Stream<'a> {
    source: &'a StreamSource,
    running: Option<Running>,
    pieces: Receiver<io::Result<Vec<u8>>>,
    is_empty: bool,
}

impl Stream<'_> {
    /// The next bytes, never none of them; `None` once the stream has come to a good end (S1).
    pub fn next_piece(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>, StreamError> {
        let begun = Instant::now();
        loop {
            match self.pieces.recv_timeout(HEARING) {
                Ok(Ok(piece)) => {
                    self.is_empty = false;
                    return if is_stopped() { Err(StreamError::Interrupted) } else { Ok(Some(piece)) };
                }
                Ok(Err(source)) => return Err(StreamError::Read { name: self.name(), source }),
                Err(RecvTimeoutError::Disconnected) => return self.end(is_stopped).map(|()| None),
                Err(RecvTimeoutError::Timeout) if is_stopped() => return Err(StreamError::Interrupted),
                Err(RecvTimeoutError::Timeout) => self.refuse_silence(begun.elapsed())?,
            }
        }
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.source.name).into_owned()
    }

    /// Somebody who types has all the time there is; a command has its limit.
    fn refuse_silence(&self, lasted: Duration) -> Result<(), StreamError> {
        match self.source.silence.filter(|limit| self.running.is_some() && lasted >= *limit) {
            None => Ok(()),
            Some(limit) => Err(StreamError::Silent { command: self.source.described(), seconds: limit.as_secs() }),
        }
    }

    fn end(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<(), StreamError> {
        if let Some(running) = &mut self.running {
            let command = self.source.described();
            let waited = running.wait(self.source.silence, is_stopped);
            match waited.map_err(|source| StreamError::Read { name: command.clone(), source })? {
                Waited::Ended(status) if status.success() => {}
                Waited::Ended(status) => return Err(StreamError::Failed { command, ended: HowEnded(status) }),
                Waited::TooLong => {
                    let seconds = self.source.silence.unwrap_or_default().as_secs();
                    return Err(StreamError::Silent { command, seconds });
                }
                Waited::Stopped => return Err(StreamError::Interrupted),
            }
        }
        if self.is_empty && !self.source.allow_empty {
            return Err(StreamError::Empty { name: self.name() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> StreamSource {
        let words = ["sh", "-c", script].map(OsString::from).to_vec();
        StreamSource::try_new(OsStr::new("dump"), StreamOrigin::Command(words)).unwrap()
    }

    fn drain(source: &StreamSource) -> Result<Vec<u8>, StreamError> {
        let (mut stream, mut all) = (source.open()?, Vec::new());
        while let Some(piece) = stream.next_piece(&|| false)? {
            all.extend(piece);
        }
        Ok(all)
    }

    #[test]
    fn what_a_command_writes_is_the_stream() {
        assert_eq!(drain(&of("printf hello; printf ' world'")).unwrap(), b"hello world");
        let long = drain(&of("head -c 5000000 /dev/zero")).unwrap();
        assert_eq!(long.len(), 5_000_000);
    }

    #[test]
    fn a_command_that_fails_late_is_no_stream() {
        let failed = drain(&of("head -c 1000000 /dev/zero; exit 3")).unwrap_err();
        assert!(failed.to_string().contains("exit code 3"), "{failed}");
        let killed = drain(&of("echo much; kill -9 $$")).unwrap_err();
        assert!(killed.to_string().contains("signal 9"), "{killed}");
        let words = vec![OsString::from("/no/such/program")];
        let none = StreamSource::try_new(OsStr::new("x"), StreamOrigin::Command(words)).unwrap();
        assert!(matches!(none.open(), Err(StreamError::Start { .. })));
    }

    #[test]
    fn a_command_that_writes_nothing_is_an_error_unless_that_is_wanted() {
        assert!(matches!(drain(&of("true")), Err(StreamError::Empty { .. })));
        assert_eq!(drain(&StreamSource { allow_empty: true, ..of("true") }).unwrap(), b"");
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let limit = Some(Duration::from_millis(300));
        let hangs = drain(&StreamSource { silence: limit, ..of("echo begun; sleep 1000") }).unwrap_err();
        assert!(matches!(hangs, StreamError::Silent { .. }), "{hangs}");
        let lingers = drain(&StreamSource { silence: limit, ..of("echo done; exec >&-; sleep 1000") }).unwrap_err();
        assert!(matches!(lingers, StreamError::Silent { .. }), "{lingers}");
        let source = of("sleep 1000");
        assert!(matches!(source.open().unwrap().next_piece(&|| true), Err(StreamError::Interrupted)));
    }

    #[test]
    fn a_name_is_one_name() {
        for name in ["", ".", "..", "a/b", "/a"] {
            let refused = StreamSource::try_new(OsStr::new(name), StreamOrigin::Stdin);
            assert!(matches!(refused, Err(StreamError::Name { .. })), "{name}");
        }
        let none = StreamSource::try_new(OsStr::new("a"), StreamOrigin::Command(Vec::new()));
        assert!(matches!(none, Err(StreamError::NoCommand)));
    }
}
