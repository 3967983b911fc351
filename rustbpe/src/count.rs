//! Counting pieces: what training needs to know of a text is how often each distinct piece occurs in it.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::split::{Invalid, Splitter};

/// How often each distinct piece occurred. Grows with the distinct pieces, not with the text.
#[derive(Debug, Default)]
pub struct PieceCounts {
    counts: FxHashMap<Box<str>, u64>,
    left_out: u64,
}

/// What one thread counted, the pieces borrowed from the texts.
#[derive(Default)]
struct Part<'t> {
    counts: FxHashMap<&'t str, u64>,
    left_out: u64,
}

impl PieceCounts {
    /// Count the pieces of some texts, in parallel on rayon's current threads.
    ///
    /// On an error nothing of these texts is counted.
    pub fn add<T: AsRef<str> + Sync>(&mut self, splitter: &Splitter, texts: &[T]) -> Result<(), Invalid> {
        let parts: Vec<Part> = texts
            .par_iter()
            .map(T::as_ref)
            .try_fold(Part::default, |mut part, text| {
                part.left_out += text.len() as u64;
                splitter.pieces(text, |piece| {
                    *part.counts.entry(piece).or_default() += 1;
                    part.left_out -= piece.len() as u64;
                })?;
                Ok(part)
            })
            .collect::<Result<_, Invalid>>()?;
        for part in parts {
            self.left_out += part.left_out;
            for (piece, count) in part.counts {
                match self.counts.get_mut(piece) {
                    Some(total) => *total += count,
                    None => {
                        self.counts.insert(piece.into(), count);
                    }
                }
            }
        }
        Ok(())
    }

    /// The distinct pieces and their counts, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(piece, &count)| (&**piece, count))
    }

    /// Bytes of the texts that are in no piece.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The number of distinct pieces.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no piece has been counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_through_texts_and_batches() {
        let splitter = Splitter::new(r"\w+").unwrap();
        let mut counts = PieceCounts::default();
        counts.add(&splitter, &["to be or", "not to be"]).unwrap();
        counts.add(&splitter, &["to"]).unwrap();
        let mut found: Vec<_> = counts.iter().collect();
        found.sort_unstable();
        assert_eq!(found, [("be", 2), ("not", 1), ("or", 1), ("to", 3)]);
        assert_eq!(counts.left_out(), 4); // the spaces
    }
}
