//! The canonical encoding: exactly one byte string for a value.
//!
//! - **Owns** headers, integers, lengths, lists and the refusal of everything else.
//! - **Does not** know any format: each writes its fields with [`Encoder`] and reads them with [`Decoder`].
//!
//! # Invariants
//! - **E1** What an [`Encoder`] wrote, a [`Decoder`] reads back; a decoder that reached [`Decoder::finish`] has seen every byte.
//! - **E2** A length or count is checked against its limit and the bytes that are left before anything is allocated.
//!
//! Format: `docs/design/encoding.md`.

/// The four bytes that name a format.
pub type Magic = [u8; 4];

/// The version of every format of this release.
pub const VERSION: u8 = 1;

/// The length of a header.
pub const HEADER_LEN: usize = 8;

/// Where a header has the flags that a reader may ignore.
const MAY_AT: usize = 6;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what} is cut short: {needed} more bytes were expected, {left} are left")]
    Short { what: &'static str, needed: usize, left: usize },
    /// Bytes follow the end.
    #[error("{what} has {extra} bytes behind its end")]
    Trailing { what: &'static str, extra: usize },
    /// Another format, or not one of ours.
    #[error("{what} does not begin with `{}`", String::from_utf8_lossy(expected))]
    Magic { what: &'static str, expected: Magic },
    /// Made by a later release.
    #[error("{what} has version {found} and flags {must:#04x}: a newer blockhouse wrote it")]
    Newer { what: &'static str, found: u8, must: u8 },
    /// A number that is not in its shortest form, or a field that must be something else.
    #[error("{what} is not canonical: {why}")]
    NotCanonical { what: &'static str, why: &'static str },
    /// A value outside its range.
    #[error("{what} holds {field} = {value}, the limit is {limit}")]
    Limit { what: &'static str, field: &'static str, value: u64, limit: u64 },
    /// A tag that version 1 does not know.
    #[error("{what} holds an unknown {field}: {value}")]
    Unknown { what: &'static str, field: &'static str, value: u64 },
    /// Text that is not UTF-8.
    #[error("{what} holds a {field} that is not UTF-8")]
    NotUtf8 { what: &'static str, field: &'static str },
}

/// Writes fields one after another.
#[derive(Debug, Default, Clone)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with the header of a format.
    pub fn with_header(magic: Magic) -> Self {
        let mut encoder = Self::new();
        encoder.bytes.extend_from_slice(&magic);
        encoder.bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        encoder
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, two's complement, little endian.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Unsigned LEB128 in its shortest form.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.u8(low);
            }
            self.u8(low | 0x80);
        }
    }

    /// A length or count as varint.
    pub fn count(&mut self, value: usize) -> &mut Self {
        self.varint(value as u64)
    }

    /// Bytes whose length the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Length, then bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// Presence, then the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(inner) => {
                self.u8(1);
                write(self, inner);
                self
            }
        }
    }

    /// Count, then each value.
    pub fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.count(values.len());
        for value in values {
            write(self, value);
        }
        self
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True before anything is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads fields one after another and refuses what is not canonical.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    what: &'static str,
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`; `what` names the thing in errors, with an article.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, left: bytes }
    }

    /// Reads `bytes`, which must begin with the header of a format.
    pub fn with_header(what: &'static str, magic: Magic, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Self::new(what, bytes);
        let found: [u8; HEADER_LEN] = decoder.array()?;
        let [a, b, c, d, version, must, may, zero] = found;
        if [a, b, c, d] != magic {
            return Err(DecodeError::Magic { what, expected: magic });
        }
        if version != VERSION || must != 0 {
            return Err(DecodeError::Newer { what, found: version, must });
        }
        // A flag that may be ignored is ignored here; a writer of version 1 sets none.
        let _ = may;
        if zero != 0 {
            return Err(decoder.not_canonical("the last byte of the header is not zero"));
        }
        Ok(decoder)
    }

    /// The same for formats whose every byte is committed to: they take no flag at all, also none that could be ignored.
    pub fn with_bare_header(what: &'static str, magic: Magic, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let decoder = Self::with_header(what, magic, bytes)?;
        match bytes.get(MAY_AT) {
            Some(0) => Ok(decoder),
            _ => Err(decoder.not_canonical("its header has flags, and this format takes none")),
        }
    }

    /// An error of this object: its bytes are not canonical.
    pub fn not_canonical(&self, why: &'static str) -> DecodeError {
        DecodeError::NotCanonical { what: self.what, why }
    }

    /// An error of this object: a tag that is not known.
    pub fn unknown(&self, field: &'static str, value: u64) -> DecodeError {
        DecodeError::Unknown { what: self.what, field, value }
    }

    /// Checks a value against its limit.
    pub fn limit(&self, field: &'static str, value: u64, limit: u64) -> Result<(), DecodeError> {
        if value > limit {
            return Err(DecodeError::Limit { what: self.what, field, value, limit });
        }
        Ok(())
    }

    /// Bytes whose length is known.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::Short { what: self.what, needed: length, left: self.left.len() };
        let (taken, left) = self.left.split_at_checked(length).ok_or(short)?;
        self.left = left;
        Ok(taken)
    }

    /// An array of bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, two's complement, little endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Unsigned LEB128; only the shortest form is taken.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low {
                return Err(self.not_canonical("a number does not fit 64 bits"));
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.not_canonical("a number is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(self.not_canonical("a number is longer than 10 bytes"))
    }

    /// A length or count, at most `limit`.
    pub fn count(&mut self, field: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        self.limit(field, value, limit as u64)?;
        usize::try_from(value).map_err(|_| self.not_canonical("a length does not fit this machine"))
    }

    /// Length, then bytes; at most `limit` of them.
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.count(field, limit)?;
        self.raw(length)
    }

    /// Bytes that are UTF-8.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        let what = self.what;
        std::str::from_utf8(self.bytes(field, limit)?).map_err(|_| DecodeError::NotUtf8 { what, field })
    }

    /// Presence, then the value.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.not_canonical("an option is neither absent nor present")),
        }
    }

    /// Count (at most `limit`), then each value; every value takes at least one byte.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        limit: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(field, limit)?;
        if count > self.left.len() {
            return Err(DecodeError::Short { what: self.what, needed: count, left: self.left.len() });
        }
        // The claimed count is bounded by the input, yet values may be larger than a byte: grow as they come.
        let mut values = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// The bytes that are not read yet.
    pub fn left(&self) -> &'a [u8] {
        self.left
    }

    /// True when every byte is read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Refuses bytes behind the end.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { what: self.what, extra }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_has_one_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut encoder = Encoder::new();
            encoder.varint(value);
            let mut decoder = Decoder::new("a number", encoder.as_slice());
            assert_eq!(decoder.varint(), Ok(value));
            assert_eq!(decoder.finish(), Ok(()));
        }
        for bad in [
            &[0x80, 0x00][..],
            &[0xff, 0x00],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert!(matches!(Decoder::new("a number", bad).varint(), Err(DecodeError::NotCanonical { .. })), "{bad:?}");
        }
    }

    #[test]
    fn header_is_checked_in_every_byte() {
        let good = Encoder::with_header(*b"BHXX").finish();
        assert!(Decoder::with_header("a thing", *b"BHXX", &good).is_ok());
        for (at, ignored) in [(0, false), (3, false), (4, false), (5, false), (6, true), (7, false)] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Decoder::with_header("a thing", *b"BHXX", &bad).is_ok(), ignored, "byte {at}");
        }
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let mut encoder = Encoder::new();
        encoder.count(1 << 40);
        let bytes = encoder.finish();
        assert!(matches!(Decoder::new("a thing", &bytes).bytes("name", 100), Err(DecodeError::Limit { .. })));
        assert!(matches!(
            Decoder::new("a thing", &bytes).list("names", usize::MAX, Decoder::u8),
            Err(DecodeError::Short { .. })
        ));
    }
}
