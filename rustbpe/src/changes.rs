//! All pairs of neighbours and how often they occur, and what one merge changes about them.
//!
//! A heap holds each pair under the count it had when it was last looked at. Counts of known pairs only ever fall, so
//! an entry whose count is out of date is put back lower. Among equal counts the pair with the smaller ids wins, so the
//! same text always gives the same tokens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::piece::{hash, Key};

/// Two tokens side by side, the left one in the upper half: pairs are ordered as numbers are.
pub type Pair = u64;

/// The pair of two tokens.
pub fn joined(left: u32, right: u32) -> Pair {
    u64::from(left) << 32 | u64::from(right)
}

/// A pair's count, and its part of `Pairs::places`: where its left token began.
#[derive(Clone, Copy, Debug)]
pub struct Occurrences {
    pub count: u64,
    pub start: u32,
    pub length: u32,
}

/// The hash of a pair, by this process's own numbers as that of a piece: a text decides which pairs there are, and could
/// have them all in one place of a table whose hash it knew.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a pair is one number");
    }

    #[inline]
    fn write_u64(&mut self, pair: u64) {
        self.0 = hash(Key::from(pair));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The pairs that there are now.
#[derive(Default)]
pub struct Pairs {
    known: HashMap<Pair, Occurrences, BuildHasherDefault<PairHasher>>,
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
    /// The places of all pairs, in order for each; those of pairs that are gone too.
    pub places: Vec<u32>,
}

impl Pairs {
    /// Add a pair that is not known.
    pub fn add(&mut self, pair: Pair, found: Occurrences) {
        self.known.insert(pair, found);
        self.heap.push((found.count, Reverse(pair)));
    }

    /// Take away the most frequent pair.
    pub fn pop_most_frequent(&mut self) -> Option<(Pair, Occurrences)> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            match self.known.get(&pair) {
                Some(found) if found.count == count => return self.known.remove(&pair).map(|found| (pair, found)),
                Some(found) => self.heap.push((found.count, Reverse(pair))),
                None => {}
            }
        }
        None
    }

    /// A pair occurs less often. The pair being merged, which may overlap itself, is known no longer.
    fn lower(&mut self, pair: Pair, by: u64) {
        if let Some(found) = self.known.get_mut(&pair) {
            found.count -= by;
            if found.count == 0 {
                self.known.remove(&pair);
            }
        }
    }

    /// How often a pair occurs.
    #[cfg(test)]
    pub fn count(&self, pair: Pair) -> u64 {
        self.known.get(&pair).map_or(0, |found| found.count)
    }
}

/// What a merge does to the pairs with one neighbour.
#[derive(Clone, Copy, Default)]
struct Change {
    /// The new pair's count.
    gained: u64,
    /// By how much the old pair's count falls.
    lost: u64,
    /// Places of the new pair; then, while they are written, where the next one goes.
    places: u32,
}

/// The changes of a merge on one side of the token it makes, by neighbour.
#[derive(Default)]
pub struct Side {
    changes: Vec<Change>,
    /// The neighbours whose change is not nothing.
    touched: Vec<u32>,
    /// Neighbour and place of each new pair, in the order of the places.
    made: Vec<(u32, u32)>,
}

impl Side {
    /// Make room for the neighbours up to `id`.
    pub fn grow(&mut self, id: u32) {
        self.changes.resize(id as usize + 1, Change::default());
    }

    /// A new pair with this neighbour, at a place.
    #[inline]
    pub fn gain(&mut self, neighbour: u32, count: u64, place: usize) {
        let change = &mut self.changes[neighbour as usize];
        if change.places == 0 {
            self.touched.push(neighbour);
        }
        change.gained += count;
        change.places += 1;
        self.made.push((neighbour, place as u32));
    }

    /// A new pair with this neighbour was made, and is no more.
    #[inline]
    pub fn take_back(&mut self, neighbour: u32, count: u64) {
        self.changes[neighbour as usize].gained -= count;
    }

    /// An old pair with this neighbour is no more.
    #[inline]
    pub fn lose(&mut self, neighbour: u32, count: u64) {
        self.changes[neighbour as usize].lost += count;
    }

    /// Bring the pairs up to date, then forget. `pairs_of` gives a neighbour's old and new pair.
    pub fn settle(&mut self, pairs: &mut Pairs, pairs_of: impl Fn(u32) -> (Pair, Pair)) {
        let mut next = pairs.places.len() as u32;
        for &neighbour in &self.touched {
            let change = &mut self.changes[neighbour as usize];
            let (old, new) = pairs_of(neighbour);
            pairs.lower(old, change.lost);
            if change.gained > 0 {
                let made = Occurrences {
                    count: change.gained,
                    start: next,
                    length: change.places,
                };
                pairs.add(new, made);
            }
            (change.places, next) = (next, next + change.places);
        }
        pairs.places.resize(next as usize, 0);
        for (neighbour, place) in self.made.drain(..) {
            let next = &mut self.changes[neighbour as usize].places;
            pairs.places[*next as usize] = place;
            *next += 1;
        }
        for neighbour in self.touched.drain(..) {
            self.changes[neighbour as usize] = Change::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use rustc_hash::FxBuildHasher;

    use super::*;

    #[test]
    fn pairs_that_are_all_in_one_place_by_rustcs_hash_are_in_many_by_ours() {
        let place = |hash: u64| hash & 0xfff; // the lowest bits say where a table looks first
        let pairs: Vec<Pair> = (0..1 << 16)
            .flat_map(|left| (0..16).map(move |right| joined(left, right)))
            .filter(|&pair| place(FxBuildHasher.hash_one(pair)) == 0)
            .collect();
        assert!(pairs.len() > 200);
        let ours = BuildHasherDefault::<PairHasher>::default();
        let places: HashSet<u64> = pairs.iter().map(|&pair| place(ours.hash_one(pair))).collect();
        assert!(places.len() > pairs.len() / 2, "{} of {}", places.len(), pairs.len());
    }
}
