//! Encoding: from text to ids, the same ids as tiktoken gives for the same tokens and pattern.
//!
//! A piece that is a token is that token. Any other begins as bytes, and the pair of neighbours that makes the token
//! with the smallest id is merged, the leftmost first, until no pair makes a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::split::{Invalid, Splitter};
use crate::train::BYTES;

/// Up to here, looking through all pairs for each merge is quicker than keeping a heap of them.
const SHORT: usize = 64;

/// No token, or no pair that makes one.
const NONE: u32 = u32::MAX;

/// A vocabulary in the form that encoding needs.
#[derive(Debug)]
pub struct Encoder {
    splitter: Splitter,
    ids: FxHashMap<Box<[u8]>, u32>,
    /// What two neighbours become. Holds every way of cutting a token into two tokens.
    merges: FxHashMap<(u32, u32), u32>,
    bytes: [u32; BYTES],
}

impl Encoder {
    /// `tokens` in the order of their ids; every single byte must be among them.
    pub fn new(pattern: &str, tokens: &[Vec<u8>]) -> Result<Self, Invalid> {
        let splitter = Splitter::new(pattern)?;
        let mut ids = FxHashMap::default();
        for (id, token) in tokens.iter().enumerate() {
            if token.is_empty() {
                return Err(Invalid(format!("token {id} of the vocabulary is empty")));
            }
            if let Some(first) = ids.insert(token.as_slice().into(), id as u32) {
                return Err(Invalid(format!("tokens {first} and {id} of the vocabulary are equal")));
            }
        }
        let mut bytes = [NONE; BYTES];
        for (byte, id) in bytes.iter_mut().enumerate() {
            *id = *ids
                .get([byte as u8].as_slice())
                .ok_or_else(|| Invalid(format!("the vocabulary has no token for the byte {byte}")))?;
        }
        let merges = ways_to_merge(&ids);
        Ok(Self {
            splitter,
            ids,
            merges,
            bytes,
        })
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Invalid> {
        let mut ids: Vec<u32> = Vec::with_capacity(text.len() / 3);
        let mut places: FxHashMap<&str, (usize, usize)> = FxHashMap::default();
        self.splitter.spans(text, |start, end| {
            let piece = &text[start..end];
            if let Some(&id) = self.ids.get(piece.as_bytes()) {
                ids.push(id);
            } else if let Some(&(start, end)) = places.get(piece) {
                ids.extend_from_within(start..end); // this text had the piece before
            } else {
                let start = ids.len();
                self.merge(piece.as_bytes(), &mut ids);
                places.insert(piece, (start, ids.len()));
            }
        })?;
        Ok(ids)
    }

    /// The ids of many texts, on rayon's current threads.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>, Invalid> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    fn merge(&self, piece: &[u8], ids: &mut Vec<u32>) {
        let tokens = piece.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        if piece.len() <= SHORT {
            self.merge_short(tokens, ids);
        } else {
            self.merge_long(tokens, ids);
        }
    }

    fn merged(&self, left: u32, right: u32) -> u32 {
        self.merges.get(&(left, right)).copied().unwrap_or(NONE)
    }

    fn merge_short(&self, mut tokens: Vec<u32>, ids: &mut Vec<u32>) {
        let mut made: Vec<u32> = tokens.windows(2).map(|pair| self.merged(pair[0], pair[1])).collect();
        while let Some((at, &id)) = made.iter().enumerate().min_by_key(|&(at, &id)| (id, at)) {
            if id == NONE {
                break;
            }
            tokens[at] = id;
            tokens.remove(at + 1);
            made.remove(at);
            if at > 0 {
                made[at - 1] = self.merged(tokens[at - 1], id);
            }
            if at < made.len() {
                made[at] = self.merged(id, tokens[at + 1]);
            }
        }
        ids.append(&mut tokens);
    }

    /// The same in O(n log n): the tokens form a linked list, and a heap holds each pair by what it makes and where.
    fn merge_long(&self, mut tokens: Vec<u32>, ids: &mut Vec<u32>) {
        let end = tokens.len();
        let mut next: Vec<usize> = (1..=end).collect();
        let mut previous: Vec<usize> = (0..end).map(|at| at.wrapping_sub(1)).collect();
        let pair_at = |tokens: &[u32], at: usize, next: usize| match tokens.get(next) {
            Some(&right) if tokens[at] != NONE => self.merged(tokens[at], right),
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

fn ways_to_merge(ids: &FxHashMap<Box<[u8]>, u32>) -> FxHashMap<(u32, u32), u32> {
    let mut merges = FxHashMap::default();
    for (token, &id) in ids {
        for cut in 1..token.len() {
            if let (Some(&left), Some(&right)) = (ids.get(&token[..cut]), ids.get(&token[cut..])) {
                merges.insert((left, right), id);
            }
        }
    }
    merges
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
        for length in 1..200 {
            let piece: Vec<u32> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    97 + (state >> 31)
                })
                .collect();
            let (mut short, mut long) = (Vec::new(), Vec::new());
            encoder.merge_short(piece.clone(), &mut short);
            encoder.merge_long(piece, &mut long);
            assert_eq!(short, long);
        }
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
