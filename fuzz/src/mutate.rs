//! Makes new inputs out of old ones.
//!
//! - **Owns** the kinds of change: bits, bytes, numbers at the edges of their types, runs removed, doubled, moved or
//!   taken from another input.
//! - **Does not** learn: an input depends on its random numbers alone, so each can be made again without the others.

use blockhouse_types::Encoder;
use rand::{Rng, RngExt};

/// No input grows beyond this by mutation.
const LENGTH_MAX: usize = 1 << 20;

/// Values at which lengths, counts and offsets go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x0001_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fff0,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// A few changes, at places and of kinds that the random numbers choose. `other` lends runs of bytes.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut impl Rng) {
    let changes = 1 << random.random_range(0..4);
    for _ in 0..random.random_range(1..=changes) {
        change(input, other, random);
        input.truncate(LENGTH_MAX);
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut impl Rng) {
    let at = place(input.len(), random);
    let run = at..at + random.random_range(0..=input.len() - at).min(1 << random.random_range(0..12));
    match random.random_range(0..10) {
        0 | 1 => flip(input, at, random),
        2 => overwrite(input, at, &[random.random::<u8>()]),
        3 => overwrite(input, at, edge(random).as_slice()),
        4 => drop(input.splice(at..at, edge(random))),
        5 => drop(input.splice(at..at, vec![random.random::<u8>(); 1 << random.random_range(0..8)])),
        6 => drop(input.drain(run)),
        7 => drop(input.splice(at..at, input[run].to_vec())),
        8 => {
            let from = place(other.len(), random);
            let lent = &other[from..from + random.random_range(0..=other.len() - from)];
            drop(input.splice(run, lent.iter().copied()));
        }
        _ => input.truncate(at),
    }
}

/// Any place, and often one near the beginning, where headers and lengths are.
fn place(length: usize, random: &mut impl Rng) -> usize {
    let end = if random.random_bool(0.5) { length.min(64) } else { length };
    random.random_range(0..=end)
}

fn flip(input: &mut [u8], at: usize, random: &mut impl Rng) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.random_range(0..8);
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in input[at..].iter_mut().zip(bytes) {
        *old = *new;
    }
}

/// A number at an edge, in one of the ways that formats write numbers.
fn edge(random: &mut impl Rng) -> Vec<u8> {
    let value = EDGES[random.random_range(0..EDGES.len())];
    let width = 1 << random.random_range(0..4);
    match random.random_range(0..4) {
        0 => value.to_le_bytes()[..width].to_vec(),
        1 => value.to_be_bytes()[8 - width..].to_vec(),
        2 => varint(value),
        _ => value.to_string().into_bytes(),
    }
}

fn varint(value: u64) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.varint(value);
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::{LENGTH_MAX, mutate};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn any_input_can_be_mutated_again_and_again() {
        let mut random = StdRng::seed_from_u64(1);
        let mut input = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            mutate(&mut input, b"another input", &mut random);
            assert!(input.len() <= LENGTH_MAX);
            seen.insert(input.len());
        }
        assert!(seen.len() > 100, "{} lengths", seen.len());
        assert!(seen.contains(&0));
    }
}
