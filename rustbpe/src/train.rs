//! Training: from counted pieces to tokens, by merging the most frequent pair of neighbours again and again.
//!
//! Pair counts are kept up to date instead of being counted anew: a merge visits only the pieces that contain its pair.
//! A heap holds each pair under the count it had when it was last looked at. Counts of known pairs only ever fall (a
//! count can rise only for a pair with the newest token), so an entry whose count is out of date is put back lower.
//! Among equal counts the pair with the smaller ids wins, so the same text always gives the same tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::count::PieceCounts;

/// Two tokens side by side.
type Pair = (u32, u32);

/// The number of tokens that every vocabulary begins with: the bytes.
pub const BYTES: usize = 256;

#[derive(Default)]
struct Occurrences {
    count: i64,
    /// The pieces that contain the pair, or did once. Each is named once a merge at most.
    pieces: Vec<u32>,
}

struct Piece {
    /// Its tokens in `Merging::ids`; merges shorten it where it lies.
    place: Range<usize>,
    count: i64,
}

/// A vocabulary under way.
pub struct Merging {
    tokens: Vec<Vec<u8>>,
    ids: Vec<u32>,
    pieces: Vec<Piece>,
    pairs: FxHashMap<Pair, Occurrences>,
    heap: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Merging {
    /// Begin with single bytes.
    pub fn new(counts: &PieceCounts) -> Self {
        let mut merging = Self {
            tokens: (0..=u8::MAX).map(|byte| vec![byte]).collect(),
            ids: Vec::new(),
            pieces: Vec::new(),
            pairs: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        for (piece, count) in counts.iter().filter(|(piece, _)| piece.len() > 1) {
            merging.add_piece(piece.as_bytes(), count as i64);
        }
        merging.heap = merging
            .pairs
            .iter()
            .map(|(&pair, found)| (found.count, Reverse(pair)))
            .collect();
        merging
    }

    /// All tokens so far, in the order of their ids.
    pub fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// Make at most `limit` merges; false where no two neighbours are left to merge.
    pub fn advance(&mut self, limit: usize) -> bool {
        let goal = self.tokens.len() + limit;
        while self.tokens.len() < goal {
            let Some((pair, pieces)) = self.pop_most_frequent() else {
                return false;
            };
            self.merge(pair, &pieces);
        }
        true
    }

    fn add_piece(&mut self, bytes: &[u8], count: i64) {
        let number = self.pieces.len() as u32;
        let start = self.ids.len();
        self.ids.extend(bytes.iter().map(|&byte| u32::from(byte)));
        let place = start..self.ids.len();
        for pair in self.ids[place.clone()].windows(2) {
            add_occurrence(&mut self.pairs, (pair[0], pair[1]), count, number);
        }
        self.pieces.push(Piece { place, count });
    }

    fn pop_most_frequent(&mut self) -> Option<(Pair, Vec<u32>)> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let now = self.pairs.get(&pair).map_or(0, |found| found.count);
            if now == count {
                return self.pairs.remove(&pair).map(|found| (pair, found.pieces));
            }
            if now > 0 {
                self.heap.push((now, Reverse(pair)));
            } else {
                self.pairs.remove(&pair);
            }
        }
        None
    }

    fn merge(&mut self, pair: Pair, pieces: &[u32]) {
        let id = self.tokens.len() as u32;
        let token = [&*self.tokens[pair.0 as usize], &*self.tokens[pair.1 as usize]].concat();
        self.tokens.push(token);
        let mut made = Vec::new();
        for &number in pieces {
            let Piece { place, count } = &mut self.pieces[number as usize];
            let pairs = &mut self.pairs;
            place.end = place.start
                + merge_in_place(&mut self.ids[place.clone()], pair, id, |changed, difference| {
                    if changed == pair {
                        return; // it is gone from every piece
                    }
                    if difference > 0 {
                        if add_occurrence(pairs, changed, *count, number) {
                            made.push(changed);
                        }
                    } else if let Some(found) = pairs.get_mut(&changed) {
                        found.count -= *count;
                    }
                });
        }
        for pair in made {
            let count = self.pairs[&pair].count;
            if count > 0 {
                self.heap.push((count, Reverse(pair)));
            } else {
                self.pairs.remove(&pair); // it came and went: in "aaaa", (aa, a) does
            }
        }
    }
}

/// Count a pair in a piece; true where the pair is new.
fn add_occurrence(pairs: &mut FxHashMap<Pair, Occurrences>, pair: Pair, count: i64, piece: u32) -> bool {
    let found = pairs.entry(pair).or_default();
    found.count += count;
    let is_new = found.pieces.is_empty();
    if found.pieces.last() != Some(&piece) {
        found.pieces.push(piece);
    }
    is_new
}

/// Replace each `pair` by `id`, from left to right, and say which neighbours came and went. The new length.
fn merge_in_place(ids: &mut [u32], pair: Pair, id: u32, mut change: impl FnMut(Pair, i64)) -> usize {
    let (mut read, mut write) = (0, 0);
    while read < ids.len() {
        if read + 1 < ids.len() && (ids[read], ids[read + 1]) == pair {
            if write > 0 {
                change((ids[write - 1], pair.0), -1);
                change((ids[write - 1], id), 1);
            }
            if let Some(&next) = ids.get(read + 2) {
                change((pair.1, next), -1);
                change((id, next), 1);
            }
            ids[write] = id;
            read += 2;
        } else {
            ids[write] = ids[read];
            read += 1;
        }
        write += 1;
    }
    write
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Splitter;

    fn trained(text: &str, merges: usize) -> Vec<String> {
        let mut counts = PieceCounts::default();
        counts.add(&Splitter::new(r"\S+").unwrap(), &[text]).unwrap();
        let mut merging = Merging::new(&counts);
        merging.advance(merges);
        let made = &merging.tokens()[BYTES..];
        made.iter()
            .map(|token| String::from_utf8(token.clone()).unwrap())
            .collect()
    }

    #[test]
    fn the_textbook_example_gives_the_textbook_merges() {
        // "aaabdaaabac", P. Gage 1994: aa, then (by smaller ids) ab, then aaab; every other pair occurs once.
        assert_eq!(trained("aaabdaaabac", 3), ["aa", "ab", "aaab"]);
    }

    #[test]
    fn among_equal_counts_the_smaller_ids_come_first() {
        assert_eq!(trained("dc ba dc ba", 2), ["ba", "dc"]);
    }

    #[test]
    fn training_ends_where_every_piece_is_one_token() {
        assert_eq!(trained("abc abc", 99), ["ab", "abc"]);
        assert_eq!(trained("aaaa", 99), ["aa", "aaaa"]);
        assert_eq!(trained("", 99), [""; 0]);
    }

    #[test]
    fn pairs_that_overlap_are_counted_as_they_are_merged() {
        let mut ids = [7, 7, 7, 7, 7];
        let mut changes = FxHashMap::default();
        let length = merge_in_place(&mut ids, (7, 7), 300, |pair, by| {
            *changes.entry(pair).or_insert(0) += by
        });
        assert_eq!(ids[..length], [300, 300, 7]);
        assert_eq!(changes[&(300, 300)], 1);
        assert_eq!(changes[&(300, 7)], 1);
    }
}
