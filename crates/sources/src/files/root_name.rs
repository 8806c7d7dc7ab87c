//! The names of a snapshot's roots: canonical paths without a slash.
//!
//! Format: `docs/design/manifests.md`, section *Tree*.

/// Why a name is not that of a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootNameError {
    #[error("the root name `{}` has an escape at byte {at} that is neither %2F nor %25", name.escape_ascii())]
    Escape { name: Vec<u8>, at: usize },
    #[error("the root name `{}` holds the byte {byte:#04x}, which no name may hold", name.escape_ascii())]
    Forbidden { name: Vec<u8>, byte: u8 },
    #[error("the root name `{}` does not stand for an absolute path", name.escape_ascii())]
    Relative { name: Vec<u8> },
}

/// The name under which the root at `path` stands in a snapshot: every `/` as `%2F`, every `%` as `%25`.
pub fn encode_root_name(path: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(path.len() + 8);
    for &byte in path {
        match byte {
            b'/' => name.extend_from_slice(b"%2F"),
            b'%' => name.extend_from_slice(b"%25"),
            other => name.push(other),
        }
    }
    name
}

/// The path that a root's name stands for. Only what [`encode_root_name`] writes is accepted.
pub fn decode_root_name(name: &[u8]) -> Result<Vec<u8>, RootNameError> {
    let mut path = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (decoded, after) = match after {
                    [b'2', b'F', after @ ..] => (b'/', after),
                    [b'2', b'5', after @ ..] => (b'%', after),
                    _ => return Err(RootNameError::Escape { name: name.to_vec(), at: name.len() - after.len() - 1 }),
                };
                path.push(decoded);
                rest = after;
            }
            b'/' | 0 => return Err(RootNameError::Forbidden { name: name.to_vec(), byte }),
            other => path.push(other),
        }
    }
    if path.first() == Some(&b'/') { Ok(path) } else { Err(RootNameError::Relative { name: name.to_vec() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decode_to_the_path_they_were_made_from() {
        for path in [&b"/"[..], b"/home/anna", b"/a%2Fb/%", b"/new\nline/\xff\xfe"] {
            let name = encode_root_name(path);
            assert!(!name.contains(&b'/'));
            assert_eq!(decode_root_name(&name).unwrap(), path);
        }
        assert_eq!(encode_root_name(b"/a%/b"), b"%2Fa%25%2Fb");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for name in [&b"%2fhome"[..], b"%2", b"%", b"%2F%41", b"/home", b"home", b"", b"%2Fa\0b"] {
            assert!(decode_root_name(name).is_err(), "{}", name.escape_ascii());
        }
    }
}
