//! Bytes and numbers that look random and are the same on every machine, in every version: BLAKE3 as a stream.

/// A stream of pseudo-random bytes that depends on its seed alone.
pub(crate) struct Entropy {
    stream: blake3::OutputReader,
    ready: Vec<u8>,
    used: usize,
}

/// How much is computed at once: long runs are what BLAKE3 is fast at.
const BATCH: usize = 64 << 10;

impl Entropy {
    pub(crate) fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("blockhouse 2026 bench corpus v1");
        hasher.update(&seed.to_le_bytes());
        Self { stream: hasher.finalize_xof(), ready: Vec::new(), used: 0 }
    }

    pub(crate) fn append(&mut self, to: &mut Vec<u8>, count: usize) {
        let mut left = count;
        while left > 0 {
            if self.used == self.ready.len() {
                self.ready.resize(BATCH, 0);
                self.stream.fill(&mut self.ready);
                self.used = 0;
            }
            let rest = self.ready.get(self.used..).unwrap_or_default();
            let some = rest.get(..left).unwrap_or(rest);
            to.extend_from_slice(some);
            self.used += some.len();
            left -= some.len();
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        self.append(&mut bytes, count);
        bytes
    }

    /// A number from 0 to `end`, without `end`; the bias is far below what a corpus could show.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let bytes = self.bytes(8).try_into().unwrap_or_default();
        u64::from_le_bytes(bytes) % end.max(1)
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// True `percent` times of a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number between 0 and 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 53) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH, Entropy};

    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_are_taken() {
        let whole = Entropy::new(7).bytes(3 * BATCH + 5);
        let mut pieces = Vec::new();
        let mut entropy = Entropy::new(7);
        for size in [1, BATCH - 1, 2, BATCH, BATCH + 3] {
            entropy.append(&mut pieces, size);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole, Entropy::new(8).bytes(whole.len()));
    }
}
