//! Training: from counted pieces to tokens, by merging the most frequent pair of neighbours again and again.
//!
//! The distinct pieces lie one behind the other, a cell a byte. A token's first and last cell hold its id, so from any
//! place its neighbours are found by their lengths, and a merge changes at most four cells. For each pair there is a list
//! of the places where it was made; a place where it is no more is passed over. A pair is made only while one of its
//! two tokens is, so each list is written once, and the changes of a merge are summed by neighbour before the table of
//! pairs is touched (changes.rs).

use crate::changes::{joined, Occurrences, Pair, Pairs, Side};
use crate::count::PieceCounts;
use crate::split::Invalid;

/// The number of tokens that every vocabulary begins with: the bytes.
pub const BYTES: usize = 256;

/// What stands between two pieces, and within a token.
const NONE: u32 = u32::MAX;

/// Each merge at a place removes a token and makes two pairs at most, so there are three places a cell at most, and
/// their number is less than 2³².
const MOST_CELLS: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Cell {
    token: u32,
    /// How often the piece occurs.
    count: u32,
}

const BETWEEN: Cell = Cell { token: NONE, count: 0 };

/// A vocabulary under way.
pub struct Merging {
    tokens: Vec<Vec<u8>>,
    cells: Vec<Cell>,
    pairs: Pairs,
    left: Side,
    right: Side,
}

impl Merging {
    /// Begin with single bytes. Invalid where the distinct pieces have more than a billion bytes.
    pub fn new(counts: &PieceCounts) -> Result<Self, Invalid> {
        let mut size = 0;
        counts.each(|piece, count| size += (piece.len() + 1) * copies(count));
        if size > MOST_CELLS {
            return Err(Invalid(format!(
                "the distinct pieces of the text have {size} bytes, and {MOST_CELLS} at most can be merged"
            )));
        }
        let mut merging = Self::begin();
        merging.cells.reserve_exact(size);
        counts.each(|piece, count| merging.add_piece(piece, count));
        merging.count_pairs();
        Ok(merging)
    }

    fn begin() -> Self {
        Self {
            tokens: (0..=u8::MAX).map(|byte| vec![byte]).collect(),
            cells: vec![BETWEEN],
            pairs: Pairs::default(),
            left: Side::default(),
            right: Side::default(),
        }
    }

    /// All tokens so far, in the order of their ids.
    pub fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// Make at most `limit` merges; false where no two neighbours are left to merge.
    pub fn advance(&mut self, limit: usize) -> bool {
        let goal = self.tokens.len() + limit;
        while self.tokens.len() < goal {
            let Some((pair, found)) = self.pairs.pop_most_frequent() else {
                return false;
            };
            self.merge(pair, found);
        }
        true
    }

    /// One more frequent than a cell can say is there more than once.
    fn add_piece(&mut self, bytes: &[u8], mut count: u64) {
        for _ in 0..copies(count) {
            if bytes.len() < 2 {
                return;
            }
            let part = count.min(u64::from(u32::MAX)) as u32;
            count -= u64::from(part);
            let cell = |&byte| Cell {
                token: u32::from(byte),
                count: part,
            };
            self.cells.extend(bytes.iter().map(cell));
            self.cells.push(BETWEEN);
        }
    }

    /// The pairs of bytes, of which there are few: each has a place in an array.
    fn count_pairs(&mut self) {
        let mut found = vec![
            Occurrences {
                count: 0,
                start: 0,
                length: 0
            };
            BYTES * BYTES
        ];
        let pairs = |cells: &[Cell]| (cells[0].token != NONE && cells[1].token != NONE).then(|| byte_pair(cells));
        for cells in self.cells.windows(2) {
            if let Some(pair) = pairs(cells) {
                found[pair].count += u64::from(cells[0].count);
                found[pair].length += 1;
            }
        }
        let mut total = 0;
        for occurrences in &mut found {
            occurrences.start = total;
            total += occurrences.length;
        }
        self.pairs.places = vec![0; total as usize];
        let mut next: Vec<u32> = found.iter().map(|occurrences| occurrences.start).collect();
        for (place, cells) in self.cells.windows(2).enumerate() {
            if let Some(pair) = pairs(cells) {
                self.pairs.places[next[pair] as usize] = place as u32;
                next[pair] += 1;
            }
        }
        for (pair, occurrences) in found.into_iter().enumerate().filter(|(_, found)| found.count > 0) {
            let pair = joined((pair / BYTES) as u32, (pair % BYTES) as u32);
            self.pairs.add(pair, occurrences);
        }
    }

    fn merge(&mut self, pair: Pair, found: Occurrences) {
        let id = self.tokens.len() as u32;
        let (left, right) = ((pair >> 32) as u32, pair as u32);
        let token = [&*self.tokens[left as usize], &*self.tokens[right as usize]].concat();
        self.tokens.push(token);
        for side in [&mut self.left, &mut self.right] {
            side.grow(id);
        }
        for at in found.start..found.start + found.length {
            self.merge_at(self.pairs.places[at as usize] as usize, (left, right), id);
        }
        let before = |neighbour| (joined(neighbour, left), joined(neighbour, id));
        self.left.settle(&mut self.pairs, before);
        let after = |neighbour| (joined(right, neighbour), joined(id, neighbour));
        self.right.settle(&mut self.pairs, after);
    }

    /// Merge the pair at a place, if it is there still. Places come in order, so what is to the right is as it was.
    #[inline]
    fn merge_at(&mut self, place: usize, (left, right): (u32, u32), id: u32) {
        let middle = place + self.tokens[left as usize].len();
        if self.cells[place].token != left || self.cells[middle].token != right {
            return;
        }
        let end = middle + self.tokens[right as usize].len();
        let count = u64::from(self.cells[place].count);
        let (before, after) = (self.cells[place - 1].token, self.cells[end].token);
        if before != NONE {
            let start = place - self.tokens[before as usize].len();
            self.left.gain(before, count, start);
            if before == id {
                self.right.take_back(left, count); // this merge made that pair, one place back
            } else {
                self.left.lose(before, count);
            }
        }
        if after != NONE {
            self.right.gain(after, count, place);
            self.right.lose(after, count);
        }
        self.cells[middle - 1].token = NONE;
        self.cells[middle].token = NONE;
        self.cells[place].token = id;
        self.cells[end - 1].token = id;
    }
}

/// How many times a piece of this count is laid down.
fn copies(count: u64) -> usize {
    count.div_ceil(u64::from(u32::MAX)) as usize
}

fn byte_pair(cells: &[Cell]) -> usize {
    cells[0].token as usize * BYTES + cells[1].token as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Splitter;

    fn trained(text: &str, merges: usize) -> Vec<String> {
        let mut counts = PieceCounts::default();
        counts.add(&Splitter::new(r"\S+").unwrap(), &[text]).unwrap();
        let mut merging = Merging::new(&counts).unwrap();
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
    fn counts_are_those_of_all_neighbours_where_a_pair_overlaps_itself() {
        // aaaaa is [aa aa a]: (aa aa) and (aa a) once each, and the smaller ids come first.
        assert_eq!(trained("aaaaa", 3), ["aa", "aaa", "aaaaa"]);
    }

    #[test]
    fn a_piece_that_is_too_frequent_for_its_cells_is_counted_in_full() {
        let mut merging = Merging::begin();
        merging.add_piece(b"ab", 2 * u64::from(u32::MAX) + 1);
        merging.add_piece(b"bc", 2 * u64::from(u32::MAX));
        merging.count_pairs();
        let count = |pair: &[u8; 2]| merging.pairs.count(joined(u32::from(pair[0]), u32::from(pair[1])));
        assert_eq!((count(b"ab"), count(b"bc")), ((1 << 33) - 1, (1 << 33) - 2));
    }
}
