//! A piece of at most fifteen bytes as one number: most pieces are short, and a number is compared at once and needs no
//! place in memory beside its table.

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

/// A hash whose highest bits are good: both halves multiplied, the product folded.
#[inline]
pub fn hash(key: Key) -> u64 {
    const SEEDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]; // odd, and of no pattern
    let product = u128::from(key as u64 ^ SEEDS[0]) * u128::from((key >> 64) as u64 ^ SEEDS[1]);
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
}
