//! Counting pieces: what training needs to know of a text is how often each distinct piece occurs in it.
//!
//! Each thread counts texts into a table of its own; then each part of the hash's range is added to the table of that
//! part, again on all threads. So no lock is waited for, and memory grows with the distinct pieces, not with the text.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::piece::{bytes_of, hash, key, Key};
use crate::split::{Invalid, Splitter};

/// Bits of the hash that say which table a short piece is in, once it has been counted.
const SHARD_BITS: u32 = 5;
const SHARDS: usize = 1 << SHARD_BITS;

/// How often each distinct piece occurred.
#[derive(Debug)]
pub struct PieceCounts {
    short: Vec<Table>,
    /// By the standard library's hash: for long pieces, rustc's is the same in every process, whatever its seed.
    long: HashMap<Box<[u8]>, u64>,
    left_out: u64,
}

impl Default for PieceCounts {
    fn default() -> Self {
        Self {
            short: (0..SHARDS).map(|_| Table::new(SHARD_BITS, 4)).collect(),
            long: HashMap::default(),
            left_out: 0,
        }
    }
}

/// What one thread counted, the long pieces borrowed from the texts.
struct Part<'t> {
    short: Table,
    long: HashMap<&'t [u8], u64>,
    left_out: u64,
}

impl PieceCounts {
    /// Count the pieces of some texts, in parallel on rayon's current threads.
    ///
    /// On an error nothing of these texts is counted.
    pub fn add<T: AsRef<str> + Sync>(&mut self, splitter: &Splitter, texts: &[T]) -> Result<(), Invalid> {
        let next = AtomicUsize::new(0);
        let parts: Vec<Part> = (0..rayon::current_num_threads().min(texts.len()))
            .into_par_iter()
            .map(|_| {
                let mut part = Part {
                    short: Table::new(0, 14),
                    long: HashMap::default(),
                    left_out: 0,
                };
                while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    part.add(splitter, text.as_ref())?;
                }
                Ok(part)
            })
            .collect::<Result<_, Invalid>>()?;
        self.short.par_iter_mut().enumerate().for_each(|(shard, table)| {
            for part in &parts {
                table.reserve(part.short.len >> SHARD_BITS);
                part.short
                    .each_of_shard(shard, |slot| table.add(slot.key(), slot.count));
            }
        });
        for part in parts {
            self.left_out += part.left_out;
            for (piece, count) in part.long {
                match self.long.get_mut(piece) {
                    Some(total) => *total += count,
                    None => {
                        self.long.insert(piece.into(), count);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hand the distinct pieces and their counts to `each`, in no particular order.
    pub fn each(&self, mut each: impl FnMut(&[u8], u64)) {
        for table in &self.short {
            table.each(|key, count| {
                let (bytes, length) = bytes_of(key);
                each(&bytes[..length], count);
            });
        }
        for (piece, &count) in &self.long {
            each(piece, count);
        }
    }

    /// Bytes of the texts that are in no piece.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The number of distinct pieces.
    pub fn len(&self) -> usize {
        self.short.iter().map(Table::len).sum::<usize>() + self.long.len()
    }

    /// Whether no piece has been counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'t> Part<'t> {
    fn add(&mut self, splitter: &Splitter, text: &'t str) -> Result<(), Invalid> {
        let bytes = text.as_bytes();
        let mut covered = 0;
        splitter.spans(text, |start, end| {
            covered += end - start;
            match key(bytes, start, end) {
                Some(key) => self.short.add(key, 1),
                None => *self.long.entry(&bytes[start..end]).or_default() += 1,
            }
        })?;
        self.left_out += (bytes.len() - covered) as u64;
        Ok(())
    }
}

/// A place of a table; free while its count is 0. The key's halves, so that a slot is 24 bytes and not 32.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    low: u64,
    high: u64,
    count: u64,
}

impl Slot {
    fn key(&self) -> Key {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

/// Short pieces and their counts: open addressing with linear probing, at most half full. A piece's home is given by the
/// highest bits of its hash behind the first `skip`, so a walk through the slots goes nearly in the order of the hash.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    len: usize,
    skip: u32,
}

impl Table {
    pub(crate) fn new(skip: u32, bits: u32) -> Self {
        Self {
            slots: vec![Slot::default(); 1 << bits.max(SHARD_BITS)],
            len: 0,
            skip,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Hand the keys and their counts to `each`.
    pub(crate) fn each(&self, mut each: impl FnMut(Key, u64)) {
        for slot in self.slots.iter().filter(|slot| slot.count > 0) {
            each(slot.key(), slot.count);
        }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash << self.skip >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    pub(crate) fn add(&mut self, key: Key, count: u64) {
        let mask = self.slots.len() - 1;
        let (low, high) = (key as u64, (key >> 64) as u64);
        let mut place = self.home(hash(key));
        loop {
            let slot = &mut self.slots[place & mask];
            if slot.low == low && slot.high == high {
                slot.count += count;
                return;
            }
            if slot.count == 0 {
                *slot = Slot { low, high, count };
                self.len += 1;
                self.reserve(1);
                return;
            }
            place += 1;
        }
    }

    /// Make room for so many pieces more.
    fn reserve(&mut self, more: usize) {
        let needed = 2 * (self.len + more);
        if needed > self.slots.len() {
            let grown = vec![Slot::default(); needed.next_power_of_two()];
            let old = std::mem::replace(&mut self.slots, grown);
            self.len = 0;
            for slot in old.iter().filter(|slot| slot.count > 0) {
                self.add(slot.key(), slot.count);
            }
        }
    }

    /// The slots whose hash begins with `shard`, for a table with no bits skipped: a stretch, and what spilled over its end.
    fn each_of_shard(&self, shard: usize, mut each: impl FnMut(&Slot)) {
        let (size, mask) = (self.slots.len() >> SHARD_BITS, self.slots.len() - 1);
        let mut place = shard * size;
        loop {
            let slot = &self.slots[place & mask];
            if slot.count > 0 && (hash(slot.key()) >> (64 - SHARD_BITS)) as usize == shard {
                each(slot);
            }
            place += 1;
            if place >= (shard + 1) * size && self.slots[place & mask].count == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use rustc_hash::FxSeededState;

    use super::*;

    fn found(counts: &PieceCounts) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        counts.each(|piece, count| found.push((String::from_utf8(piece.to_vec()).unwrap(), count)));
        found.sort_unstable();
        found
    }

    #[test]
    fn pieces_are_counted_through_texts_and_batches() {
        let splitter = Splitter::new(r"\w+").unwrap();
        let mut counts = PieceCounts::default();
        counts
            .add(&splitter, &["to be or", "not to be", "longer_than_15_bytes"])
            .unwrap();
        counts.add(&splitter, &["to longer_than_15_bytes"]).unwrap();
        let expected = [("be", 2), ("longer_than_15_bytes", 2), ("not", 1), ("or", 1), ("to", 3)];
        assert_eq!(
            found(&counts),
            expected.map(|(piece, count)| (piece.to_string(), count))
        );
        assert_eq!(counts.len(), 5);
        assert_eq!(counts.left_out(), 5); // the spaces
    }

    #[test]
    fn as_many_distinct_pieces_as_there_are_are_kept_apart() {
        let splitter = Splitter::new(r"\w+").unwrap();
        let mut counts = PieceCounts::default();
        let text: Vec<String> = (0..200_000).map(|number| format!("{number} {}", number / 2)).collect();
        for batch in text.chunks(70_000) {
            counts.add(&splitter, batch).unwrap();
        }
        let mut expected: Vec<_> = (0..200_000)
            .map(|number: u64| (number.to_string(), if number < 100_000 { 3 } else { 1 }))
            .collect();
        expected.sort_unstable();
        assert_eq!(found(&counts), expected);
    }

    #[test]
    fn long_pieces_that_are_all_one_to_rustcs_hash_are_many_to_ours() {
        // Its first constant in their first eight bytes: the next eight are multiplied by nothing, under any seed.
        let pieces: Vec<Vec<u8>> = (0..100_u64)
            .map(|number| {
                let constant = 0x243f_6a88_85a3_08d3_u64.to_le_bytes();
                [constant, number.to_le_bytes(), [0; 8], [0; 8]].concat()
            })
            .collect();
        let distinct =
            |hash: &dyn Fn(&[u8]) -> u64| pieces.iter().map(|piece| hash(piece)).collect::<HashSet<_>>().len();
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15] {
            let rustc = FxSeededState::with_seed(seed);
            assert_eq!(distinct(&|piece| rustc.hash_one(piece)), 1);
        }
        let counts = PieceCounts::default();
        assert_eq!(distinct(&|piece| counts.long.hasher().hash_one(piece)), 100);
    }
}
