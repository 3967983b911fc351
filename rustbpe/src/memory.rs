//! What became of pieces that are no token, so that a piece which comes again is not merged again.
//!
//! One thread's, of bounded size: a short piece has one place, where a later one takes over; once there are many ids,
//! all is forgotten.

use std::collections::HashMap;

use crate::piece::Key;

/// Places for short pieces, as a power of two: three megabytes.
const BITS: u32 = 17;

/// Ids and bytes of long pieces that are kept at most.
const MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    low: u64,
    high: u64,
    start: u32,
    length: u32,
}

/// A memory of pieces; takes up space only once something is kept.
#[derive(Debug, Default)]
pub struct Memory {
    slots: Vec<Slot>,
    long: HashMap<Box<[u8]>, (u32, u32)>,
    ids: Vec<u32>,
    bytes: usize,
}

impl Memory {
    /// The ids of a short piece, if it is known.
    #[inline]
    pub fn short(&self, key: Key, hash: u64) -> Option<&[u32]> {
        let slot = self.slots.get((hash >> (64 - BITS)) as usize)?;
        let known = slot.low == key as u64 && slot.high == (key >> 64) as u64;
        known.then(|| self.ids_at(slot.start, slot.length))
    }

    /// The ids of a long piece, if it is known.
    pub fn long(&self, piece: &[u8]) -> Option<&[u32]> {
        self.long.get(piece).map(|&(start, length)| self.ids_at(start, length))
    }

    /// Keep the ids of a short piece.
    pub fn keep_short(&mut self, key: Key, hash: u64, ids: &[u32]) {
        let (start, length) = self.keep(ids);
        self.slots.resize(1 << BITS, Slot::default());
        self.slots[(hash >> (64 - BITS)) as usize] = Slot {
            low: key as u64,
            high: (key >> 64) as u64,
            start,
            length,
        };
    }

    /// Keep the ids of a long piece, unless it is very long.
    pub fn keep_long(&mut self, piece: &[u8], ids: &[u32]) {
        if piece.len() <= MOST / 256 {
            let place = self.keep(ids);
            self.bytes += piece.len();
            self.long.insert(piece.into(), place);
        }
    }

    fn keep(&mut self, ids: &[u32]) -> (u32, u32) {
        if self.ids.len() + ids.len() > MOST || self.bytes > MOST {
            self.slots.fill(Slot::default());
            self.long.clear();
            self.ids.clear();
            self.bytes = 0;
        }
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(ids);
        (start, ids.len() as u32)
    }

    fn ids_at(&self, start: u32, length: u32) -> &[u32] {
        &self.ids[start as usize..][..length as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::{hash, key};

    #[test]
    fn what_is_known_is_what_was_kept_and_there_is_never_much_of_it() {
        let mut memory = Memory::default();
        for number in 0..2_000_000_u32 {
            let name = number.to_string();
            let short = key(name.as_bytes(), 0, name.len()).unwrap();
            let long = format!("a piece that is long: {number}").into_bytes();
            assert_eq!(memory.short(short, hash(short)), None);
            assert_eq!(memory.long(&long), None);
            memory.keep_short(short, hash(short), &[number, 7]);
            memory.keep_long(&long, &[7, number]);
            assert_eq!(memory.short(short, hash(short)), Some(&[number, 7][..]));
            assert_eq!(memory.long(&long), Some(&[7, number][..]));
            assert!(memory.ids.len() <= MOST && memory.bytes <= MOST + long.len());
        }
    }
}
