//! A piece of at most fifteen bytes as one number: most pieces are short, and a number is compared at once and needs no
//! place in memory beside its table.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The most bytes of a piece that is a number.
pub const SHORT: usize = 15;

/// The bytes, the first one lowest, and above them their number; never 0.
pub type Key = u128;

const MASKS: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut length = 0;
    while length <= SHORT {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

/// The key of `bytes[start..end]`; None where that is empty or too long.
#[inline]
pub fn key(bytes: &[u8], start: usize, end: usize) -> Option<Key> {
    let length = end - start;
    if length.wrapping_sub(1) >= SHORT {
        return None;
    }
    let window: [u8; 16] = match bytes.get(start..start + 16) {
        Some(window) => window.try_into().expect("sixteen bytes are sixteen"),
        None => {
            let mut window = [0; 16];
            window[..length].copy_from_slice(&bytes[start..end]);
            window
        }
    };
    Some(u128::from_le_bytes(window) & MASKS[length] | (length as u128) << 120)
}

/// The bytes of a key, the first `length` of the array.
pub fn bytes_of(key: Key) -> ([u8; 16], usize) {
    (key.to_le_bytes(), (key >> 120) as usize)
}

/// This process's own numbers, so that nobody can write a text whose pieces all have one hash, and take hours.
static SEEDS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let state = RandomState::new();
    [state.hash_one(0), state.hash_one(1)]
});

/// A hash whose highest bits are good: both halves multiplied, the product folded. Another one in each process.
#[inline]
pub fn hash(key: Key) -> u64 {
    let [first, second] = *SEEDS;
    let product = u128::from(key as u64 ^ first) * u128::from((key >> 64) as u64 ^ second);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_the_bytes_and_their_number_wherever_they_stand() {
        let text = b"\0a\0\0and some more than sixteen";
        for start in 0..text.len() {
            for end in start + 1..=text.len().min(start + SHORT) {
                let (bytes, length) = bytes_of(key(text, start, end).unwrap());
                assert_eq!(&bytes[..length], &text[start..end]);
            }
        }
        assert_eq!(key(text, 3, 3), None);
        assert_eq!(key(text, 0, 16), None);
        assert_ne!(key(b"\0", 0, 1), key(b"\0\0", 0, 2));
    }

    #[test]
    fn keys_that_share_a_half_share_no_hash_whatever_the_half_is() {
        for half in [0, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            for shift in [0, 64] {
                let mut hashes: Vec<u64> = (1..=1000_u128)
                    .map(|other| hash(u128::from(half) << shift | other << (64 - shift)))
                    .collect();
                hashes.sort_unstable();
                hashes.dedup();
                assert_eq!(hashes.len(), 1000);
            }
        }
    }
}
