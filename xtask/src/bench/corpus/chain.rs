//! Files like a Bitcoin node's: framed blocks whose signatures, keys and previous outputs are fresh entropy, and whose
//! output scripts repeat busy addresses. A fast compressor saves about a fifth.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::{Entropy, overwrite};

/// What a file holds before the next one is begun, as in a node.
const FILE_BYTES: u64 = 128 << 20;
const BUSY_ADDRESSES: usize = 1500;
const MAGIC: [u8; 4] = [0xf9, 0xbe, 0xb4, 0xd9];

pub(crate) fn generate(folder: &Path, total: u64) -> Result<()> {
    append(folder, Chain::new(1), total)
}

pub(crate) fn change(folder: &Path, total: u64) -> Result<u64> {
    let (mut entropy, mut written) = (Entropy::new(2), 0);
    for number in 0..files(folder) {
        written += overwrite(&folder.join(name(number)), 64 << 10, &mut entropy)?;
    }
    append(folder, Chain::new(3), total / 20)?;
    Ok(written + total / 20)
}

fn name(number: u64) -> String {
    format!("blk{number:05}.dat")
}

fn files(folder: &Path) -> u64 {
    (0..100_000).take_while(|number| folder.join(name(*number)).exists()).count() as u64
}

/// Goes on with the last file.
fn append(folder: &Path, mut chain: Chain, total: u64) -> Result<()> {
    let mut number = files(folder).saturating_sub(1);
    let mut written = 0;
    while written < total {
        let path = folder.join(name(number));
        let mut fill = || -> std::io::Result<()> {
            let file = OpenOptions::new().append(true).create(true).open(&path)?;
            let mut length = file.metadata()?.len();
            let mut file = BufWriter::new(file);
            while length < FILE_BYTES && written < total {
                let block = chain.block();
                file.write_all(&block)?;
                length += block.len() as u64;
                written += block.len() as u64;
            }
            file.flush()
        };
        fill().with_context(|| format!("could not write {}", path.display()))?;
        number += 1;
    }
    Ok(())
}

struct Chain {
    entropy: Entropy,
    busy: Vec<Vec<u8>>,
    parent: [u8; 32],
}

impl Chain {
    fn new(seed: u64) -> Self {
        let mut entropy = Entropy::new(seed);
        let busy = (0..BUSY_ADDRESSES).map(|_| pay_to(&entropy.bytes(20))).collect();
        Self { entropy, busy, parent: [0; 32] }
    }

    /// The next block with its frame: magic, length, header, count, transactions.
    fn block(&mut self) -> Vec<u8> {
        let count = 900 + self.entropy.below(1500);
        let mut body = Vec::with_capacity(1 << 20);
        body.extend_from_slice(&0x2000_0000_u32.to_le_bytes());
        body.extend_from_slice(&self.parent);
        self.entropy.append(&mut body, 32 + 12);
        self.parent = *blake3::hash(&body).as_bytes();
        body.push(0xfd);
        body.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
        for _ in 0..count {
            self.transaction(&mut body);
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&MAGIC[..], &length.to_le_bytes(), &body].concat()
    }

    fn transaction(&mut self, to: &mut Vec<u8>) {
        let inputs = if self.entropy.chance(75) { 1 } else { 2 };
        to.extend_from_slice(&[2, 0, 0, 0, inputs]);
        for _ in 0..inputs {
            self.entropy.append(to, 32);
            to.extend_from_slice(&[u8::from(self.entropy.chance(50)), 0, 0, 0]);
            to.extend_from_slice(&[0x6a, 0x47, 0x30, 0x44, 0x02, 0x20]);
            self.entropy.append(to, 32);
            to.extend_from_slice(&[0x02, 0x20]);
            self.entropy.append(to, 32);
            to.extend_from_slice(&[0x01, 0x21, 0x02]);
            self.entropy.append(to, 32);
            to.extend_from_slice(&[0xff; 4]);
        }
        to.push(2);
        for _ in 0..2 {
            let amount = self.entropy.below(1 << 30) * 100;
            to.extend_from_slice(&amount.to_le_bytes());
            to.extend_from_slice(&self.script());
        }
        to.extend_from_slice(&[0; 4]);
    }

    /// A busy address more than half of the time, and some of them far more often than others.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number from 0 to below 1500"
    )]
    fn script(&mut self) -> Vec<u8> {
        if self.entropy.chance(55) {
            let choice = (self.entropy.unit().powi(3) * BUSY_ADDRESSES as f64) as usize;
            self.busy.get(choice).cloned().unwrap_or_default()
        } else {
            pay_to(&self.entropy.bytes(20))
        }
    }
}

fn pay_to(address: &[u8]) -> Vec<u8> {
    [&[0x19, 0x76, 0xa9, 0x14][..], address, &[0x88, 0xac]].concat()
}
