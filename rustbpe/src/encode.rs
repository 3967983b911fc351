//! Encoding: from text to ids, the same ids as tiktoken gives for the same tokens and pattern.
//!
//! A piece that is a token is that token. Any other begins as bytes, and the pair of neighbours that makes the token
//! with the smallest id is merged, the leftmost first, until no pair makes a token. Each thread remembers what became of
//! such pieces (memory.rs).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use rayon::prelude::*;

use crate::memory::Memory;
use crate::piece::{hash, key};
use crate::split::{Invalid, Splitter};
use crate::tables::{Tables, NONE};

/// Up to here, looking through all pairs for each merge is quicker than keeping a heap of them.
const SHORT: usize = 64;

/// A vocabulary in the form that encoding needs.
#[derive(Debug)]
pub struct Encoder {
    splitter: Splitter,
    tables: Tables,
    /// Those that no thread uses now.
    memories: Mutex<Vec<Memory>>,
}

/// The ids of some texts, one text's behind the other's.
#[derive(Debug, Default)]
pub struct Batch {
    parts: Vec<Part>,
    /// Of each text, the part and where its ids begin and end there.
    places: Vec<(usize, usize, usize)>,
}

/// What one thread encoded.
#[derive(Debug, Default)]
struct Part {
    ids: Vec<u32>,
    /// Of each text, its number and where its ids end.
    ends: Vec<(usize, usize)>,
}

impl Batch {
    fn new(parts: Vec<Part>, texts: usize) -> Self {
        let mut places = vec![(0, 0, 0); texts];
        for (number, part) in parts.iter().enumerate() {
            let mut start = 0;
            for &(text, end) in &part.ends {
                places[text] = (number, start, end);
                start = end;
            }
        }
        Self { parts, places }
    }

    /// The ids of each text, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.places
            .iter()
            .map(|&(part, start, end)| &self.parts[part].ids[start..end])
    }
}

impl Encoder {
    /// `tokens` in the order of their ids; every single byte must be among them.
    pub fn new(pattern: &str, tokens: &[Vec<u8>]) -> Result<Self, Invalid> {
        Ok(Self {
            splitter: Splitter::new(pattern)?,
            tables: Tables::new(tokens)?,
            memories: Mutex::default(),
        })
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Invalid> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.with_memory(|memory| self.encode_into(text, memory, &mut ids))?;
        Ok(ids)
    }

    /// The ids of many texts, on rayon's current threads.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Batch, Invalid> {
        let next = AtomicUsize::new(0);
        let parts = (0..rayon::current_num_threads().min(texts.len()))
            .into_par_iter()
            .map(|_| {
                let mut part = Part::default();
                self.with_memory(|memory| loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(text) = texts.get(number) else {
                        return Ok(());
                    };
                    self.encode_into(text.as_ref(), memory, &mut part.ids)?;
                    part.ends.push((number, part.ids.len()));
                })?;
                Ok(part)
            })
            .collect::<Result<Vec<Part>, Invalid>>()?;
        Ok(Batch::new(parts, texts.len()))
    }

    /// Work with one of the memories. Never waits: a forked process may have got the lock in use by a thread it lacks.
    fn with_memory<R>(&self, work: impl FnOnce(&mut Memory) -> R) -> R {
        let kept = self.memories.try_lock().ok().and_then(|mut kept| kept.pop());
        let mut memory = kept.unwrap_or_default();
        let result = work(&mut memory);
        if let Ok(mut kept) = self.memories.try_lock() {
            kept.push(memory);
        }
        result
    }

    fn encode_into(&self, text: &str, memory: &mut Memory, ids: &mut Vec<u32>) -> Result<(), Invalid> {
        let bytes = text.as_bytes();
        self.splitter.spans(text, |start, end| match key(bytes, start, end) {
            Some(key) => {
                let hash = hash(key);
                match self.tables.short(key, hash) {
                    NONE => match memory.short(key, hash) {
                        Some(known) => ids.extend(known.iter()), // few: quicker than a call to copy them
                        None => {
                            let before = ids.len();
                            self.merge(&bytes[start..end], ids);
                            memory.keep_short(key, hash, &ids[before..]);
                        }
                    },
                    id => ids.push(id),
                }
            }
            None => self.encode_long(&bytes[start..end], memory, ids),
        })
    }

    fn encode_long(&self, piece: &[u8], memory: &mut Memory, ids: &mut Vec<u32>) {
        let id = self.tables.long(piece);
        if id != NONE {
            ids.push(id);
        } else if let Some(known) = memory.long(piece) {
            ids.extend_from_slice(known);
        } else {
            let before = ids.len();
            self.merge(piece, ids);
            memory.keep_long(piece, &ids[before..]);
        }
    }

    fn merge(&self, piece: &[u8], ids: &mut Vec<u32>) {
        if piece.len() <= SHORT {
            self.merge_short(piece, ids);
        } else {
            self.merge_long(piece, ids);
        }
    }

    /// The tokens and what each becomes with the next lie in two arrays on the stack.
    fn merge_short(&self, piece: &[u8], ids: &mut Vec<u32>) {
        let (mut tokens, mut made) = ([NONE; SHORT], [NONE; SHORT]);
        let mut length = piece.len();
        for (at, &byte) in piece.iter().enumerate() {
            tokens[at] = self.tables.bytes[usize::from(byte)];
        }
        for (at, pair) in piece.windows(2).enumerate() {
            made[at] = self.tables.merged_bytes(pair[0], pair[1]);
        }
        while length > 1 {
            let (mut id, mut at) = (NONE, 0);
            for (place, &next) in made[..length - 1].iter().enumerate() {
                if next < id {
                    (id, at) = (next, place);
                }
            }
            if id == NONE {
                break;
            }
            tokens.copy_within(at + 2..length, at + 1);
            made.copy_within(at + 1..length, at);
            tokens[at] = id;
            length -= 1;
            if at > 0 {
                made[at - 1] = self.tables.merged(tokens[at - 1], id);
            }
            made[at] = match at + 1 < length {
                true => self.tables.merged(id, tokens[at + 1]),
                false => NONE,
            };
        }
        ids.extend_from_slice(&tokens[..length]);
    }

    /// The same in O(n log n): the tokens form a linked list, and a heap holds each pair by what it makes and where.
    fn merge_long(&self, piece: &[u8], ids: &mut Vec<u32>) {
        let mut tokens: Vec<u32> = piece.iter().map(|&byte| self.tables.bytes[usize::from(byte)]).collect();
        let end = tokens.len();
        let mut next: Vec<usize> = (1..=end).collect();
        let mut previous: Vec<usize> = (0..end).map(|at| at.wrapping_sub(1)).collect();
        let pair_at = |tokens: &[u32], at: usize, next: usize| match tokens.get(next) {
            Some(&right) if tokens[at] != NONE => self.tables.merged(tokens[at], right),
            _ => NONE,
        };
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = (0..end)
            .map(|at| Reverse((pair_at(&tokens, at, at + 1), at)))
            .filter(|&Reverse((id, _))| id != NONE)
            .collect();
        while let Some(Reverse((id, at))) = heap.pop() {
            if pair_at(&tokens, at, next[at]) != id {
                continue; // a merge beside it came first
            }
            let gone = next[at];
            tokens[at] = id;
            tokens[gone] = NONE;
            next[at] = next[gone];
            if next[at] < end {
                previous[next[at]] = at;
            }
            for left in [previous[at], at] {
                if left < end {
                    let made = pair_at(&tokens, left, next[left]);
                    if made != NONE {
                        heap.push(Reverse((made, left)));
                    }
                }
            }
        }
        ids.extend(tokens.into_iter().filter(|&token| token != NONE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(made: &[&str]) -> Encoder {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let tokens: Vec<_> = bytes
            .chain(made.iter().map(|token| token.as_bytes().to_vec()))
            .collect();
        Encoder::new(r"\S+|\s+", &tokens).unwrap()
    }

    #[test]
    fn the_smallest_id_is_merged_first_and_the_leftmost_of_equals() {
        let encoder = encoder(&["bc", "ab", "aa", "abc"]);
        assert_eq!(encoder.encode("abcd").unwrap(), [259, 100]);
        assert_eq!(encoder.encode("aaax").unwrap(), [258, 97, 120]);
        assert_eq!(encoder.encode("abbc").unwrap(), [257, 256]);
    }

    #[test]
    fn a_piece_that_is_a_token_needs_no_merges_to_reach_it() {
        assert_eq!(
            encoder(&["xyz"]).encode("xyz wxyz").unwrap(),
            [256, 32, 119, 120, 121, 122]
        );
    }

    #[test]
    fn long_pieces_give_the_same_ids_as_short_ones() {
        let encoder = encoder(&["ab", "ba", "aba", "bb", "abab", "babb"]);
        let mut state = 1u32;
        for length in (1..=SHORT).cycle().take(500) {
            let piece: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    97 + (state >> 31) as u8
                })
                .collect();
            let (mut short, mut long) = (Vec::new(), Vec::new());
            encoder.merge_short(&piece, &mut short);
            encoder.merge_long(&piece, &mut long);
            assert_eq!(short, long);
        }
    }

    #[test]
    fn a_batch_keeps_the_order_of_its_texts() {
        let encoder = encoder(&["ab"]);
        let texts: Vec<String> = (0..100).map(|number| "ab".repeat(number) + " x").collect();
        let batch = encoder.encode_batch(&texts).unwrap();
        let expected: Vec<_> = texts.iter().map(|text| encoder.encode(text).unwrap()).collect();
        assert_eq!(batch.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_vocabulary_without_a_byte_or_with_a_token_twice_is_refused() {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        tokens.push(vec![97]);
        assert!(Encoder::new(".", &tokens).unwrap_err().0.contains("97 and 256"));
        tokens.drain(9..);
        assert!(Encoder::new(".", &tokens).unwrap_err().0.contains("byte 9"));
    }
}
