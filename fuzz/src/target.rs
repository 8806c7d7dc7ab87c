//! What a target is: a function from any bytes to a verdict, with inputs to begin from.

use std::error::Error;

/// A decoder, or a few that belong together, and what must hold whatever it is fed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// The functions that it feeds, as `crate/file.rs::function`; a test compares all targets with the sources.
    pub decoders: &'static [&'static str],
    /// Feeds them. A broken promise is a panic.
    pub run: fn(&[u8]) -> Verdict,
    /// Inputs that it accepts: what mutations begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Whether the bytes were taken for what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They were.
    Accepted,
    /// They were not, for a reason that can be printed.
    Refused,
}

impl Verdict {
    /// The verdict of a result. An error is printed with its causes: no text may panic or be empty.
    pub fn of<T, E: Error>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(error) => {
                let mut cause: Option<&dyn Error> = Some(&error);
                while let Some(found) = cause {
                    assert!(!found.to_string().is_empty(), "an error without a text: {found:?}");
                    cause = found.source();
                }
                Self::Refused
            }
        }
    }

    /// The verdict of a canonical decoder: what it takes, it writes again as the same bytes.
    pub fn canonical<T, E: Error>(bytes: &[u8], result: Result<T, E>, encode: impl Fn(&T) -> Vec<u8>) -> Self {
        if let Ok(value) = &result {
            assert!(encode(value) == bytes, "a second encoding was accepted");
        }
        Self::of(result)
    }

    /// Like [`Verdict::canonical`], for formats whose header has flags that a reader may ignore and a writer sets to 0.
    pub fn canonical_object<T, E: Error>(bytes: &[u8], result: Result<T, E>, encode: impl Fn(&T) -> Vec<u8>) -> Self {
        const MAY_IGNORE: usize = 6;
        let mut expected = bytes.to_vec();
        if let Some(flags) = expected.get_mut(MAY_IGNORE) {
            *flags = 0;
        }
        Self::canonical(&expected, result, encode)
    }
}
