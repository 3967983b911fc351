//! The tables of a vocabulary: which id a piece has, and what two neighbours become.
//!
//! Open addressing with linear probing, at most half full, never changed once made. Numbers are the keys (piece.rs), so
//! that a look-up reads one place of memory and compares no strings.

use std::collections::HashMap;

use crate::piece::{hash, key, Key};
use crate::split::Invalid;
use crate::train::BYTES;

/// No token, or no pair that makes one.
pub const NONE: u32 = u32::MAX;

/// Bits of an id in a pair's slot, so that two and what they become are one number.
const ID_BITS: u32 = 21;

/// The most tokens of a vocabulary.
const MOST: usize = (1 << ID_BITS) - 1;

/// Short tokens, by their keys' halves.
#[derive(Debug)]
struct Tokens {
    slots: Vec<(u64, u64, u32)>,
}

impl Tokens {
    fn new(entries: &[(Key, u32)]) -> Self {
        let mut slots = vec![(0, 0, NONE); size(entries.len())];
        let mask = slots.len() - 1;
        for &(key, id) in entries {
            let mut place = home(hash(key), mask);
            while slots[place & mask].2 != NONE {
                place += 1;
            }
            slots[place & mask] = (key as u64, (key >> 64) as u64, id);
        }
        Self { slots }
    }

    #[inline]
    fn get(&self, key: Key, hash: u64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut place = home(hash, mask);
        loop {
            let (low, high, id) = self.slots[place & mask];
            if (low == key as u64 && high == (key >> 64) as u64) || id == NONE {
                return id;
            }
            place += 1;
        }
    }
}

/// Pairs of tokens, above what they become.
#[derive(Debug)]
struct Merges {
    slots: Vec<u64>,
    /// A word for every sixteen slots, with a bit set for each pair in the table: most pairs make nothing, and that is
    /// nearly always seen here, in what a processor's cache holds.
    seen: Vec<u64>,
}

const FREE: u64 = u64::MAX;

impl Merges {
    fn new(entries: &[(u64, u32)]) -> Self {
        let mut slots = vec![FREE; size(entries.len())];
        let mut seen = vec![0; (slots.len() / SLOTS_SEEN).max(2)];
        let mask = slots.len() - 1;
        for &(pair, id) in entries {
            let (word, bit) = sight(hash_of_pair(pair), seen.len() - 1);
            seen[word] |= bit;
            let mut place = home(hash_of_pair(pair), mask);
            while slots[place & mask] != FREE {
                place += 1;
            }
            slots[place & mask] = pair << ID_BITS | u64::from(id);
        }
        Self { slots, seen }
    }

    #[inline]
    fn get(&self, pair: u64) -> u32 {
        let hash = hash_of_pair(pair);
        let (word, bit) = sight(hash, self.seen.len() - 1);
        if self.seen[word] & bit == 0 {
            return NONE;
        }
        let mask = self.slots.len() - 1;
        let mut place = home(hash, mask);
        loop {
            let slot = self.slots[place & mask];
            if slot == FREE {
                return NONE;
            }
            if slot >> ID_BITS == pair {
                return (slot & MOST as u64) as u32;
            }
            place += 1;
        }
    }
}

/// Slots that a word of `Merges::seen` is for.
const SLOTS_SEEN: usize = 16;

/// The word of `Merges::seen`, and the bit in it.
#[inline]
fn sight(hash: u64, mask: usize) -> (usize, u64) {
    (home(hash, mask), 1 << (hash & 63))
}

fn size(entries: usize) -> usize {
    (2 * entries).next_power_of_two().max(2)
}

#[inline]
fn home(hash: u64, mask: usize) -> usize {
    (hash >> mask.leading_zeros()) as usize
}

/// What encoding looks up.
#[derive(Debug)]
pub struct Tables {
    short: Tokens,
    long: HashMap<Box<[u8]>, u32>,
    /// What two tokens become. Holds every way of cutting a token into two tokens.
    merges: Merges,
    /// What two bytes become, the first times 256 plus the second.
    byte_merges: Vec<u32>,
    /// The ids of the bytes.
    pub bytes: [u32; BYTES],
}

impl Tables {
    /// `tokens` in the order of their ids; every single byte must be among them, and none twice.
    pub fn new(tokens: &[Vec<u8>]) -> Result<Self, Invalid> {
        let ids = ids_of(tokens)?;
        let mut bytes = [NONE; BYTES];
        for (byte, id) in bytes.iter_mut().enumerate() {
            *id = *ids
                .get([byte as u8].as_slice())
                .ok_or_else(|| Invalid(format!("the vocabulary has no token for the byte {byte}")))?;
        }
        let (mut short, mut long) = (Vec::with_capacity(tokens.len()), HashMap::default());
        for (token, &id) in &ids {
            match key(token, 0, token.len()) {
                Some(key) => short.push((key, id)),
                None => {
                    long.insert((*token).into(), id);
                }
            }
        }
        let merges = ways_to_merge(&ids);
        let mut byte_merges = vec![NONE; BYTES * BYTES];
        for (token, &id) in ids.iter().filter(|(token, _)| token.len() == 2) {
            byte_merges[usize::from(token[0]) * BYTES + usize::from(token[1])] = id;
        }
        Ok(Self {
            short: Tokens::new(&short),
            long,
            merges: Merges::new(&merges),
            byte_merges,
            bytes,
        })
    }

    /// The id of a short piece and its hash; NONE where it is no token.
    #[inline]
    pub fn short(&self, key: Key, hash: u64) -> u32 {
        self.short.get(key, hash)
    }

    /// The id of a piece that has no key.
    pub fn long(&self, piece: &[u8]) -> u32 {
        self.long.get(piece).copied().unwrap_or(NONE)
    }

    /// What two tokens become.
    #[inline]
    pub fn merged(&self, left: u32, right: u32) -> u32 {
        self.merges.get(joined(left, right))
    }

    /// What two bytes become.
    #[inline]
    pub fn merged_bytes(&self, left: u8, right: u8) -> u32 {
        self.byte_merges[usize::from(left) * BYTES + usize::from(right)]
    }
}

fn ids_of(tokens: &[Vec<u8>]) -> Result<HashMap<&[u8], u32>, Invalid> {
    if tokens.len() > MOST {
        return Err(Invalid(format!("the vocabulary has more than {MOST} tokens")));
    }
    let mut ids = HashMap::default();
    for (id, token) in tokens.iter().enumerate() {
        if token.is_empty() {
            return Err(Invalid(format!("token {id} of the vocabulary is empty")));
        }
        if let Some(first) = ids.insert(token.as_slice(), id as u32) {
            return Err(Invalid(format!("tokens {first} and {id} of the vocabulary are equal")));
        }
    }
    Ok(ids)
}

fn ways_to_merge(ids: &HashMap<&[u8], u32>) -> Vec<(u64, u32)> {
    let mut merges = Vec::new();
    for (token, &id) in ids {
        for cut in 1..token.len() {
            if let (Some(&left), Some(&right)) = (ids.get(&token[..cut]), ids.get(&token[cut..])) {
                merges.push((joined(left, right), id));
            }
        }
    }
    merges
}

fn joined(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

#[inline]
fn hash_of_pair(pair: u64) -> u64 {
    let product = u128::from(pair) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}
