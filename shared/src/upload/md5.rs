//! MD5 (RFC 1321), for `Upload-Checksum: md5` alone: some clients have nothing better. It finds broken bytes, and proves
//! nothing against an enemy. Called by `checksum`; never used for anything that must be secure.

/// Bytes of a block.
const BLOCK: usize = 64;
/// Left rotations of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// A digest in the making.
#[derive(Debug, Clone)]
pub(super) struct Md5 {
    state: [u32; 4],
    block: [u8; BLOCK],
    filled: usize,
    bytes: u64,
    /// floor(2^32 × |sin(i + 1)|), section 3.4
    sines: [u32; BLOCK],
}

impl Md5 {
    pub(super) fn new() -> Self {
        let mut sines = [0_u32; BLOCK];
        for (i, sine) in (1_u32..).zip(&mut sines) {
            // at most 2^32 − 1, because no whole number's sine is 1; the cast saturates anyway
            *sine = (f64::from(i).sin().abs() * 4_294_967_296.0) as u32;
        }
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        Self { state, block: [0; BLOCK], filled: 0, bytes: 0, sines }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.bytes = self.bytes.wrapping_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let taken = bytes.len().min(BLOCK - self.filled);
            self.block[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == BLOCK {
                self.mix();
                self.filled = 0;
            }
        }
    }

    pub(super) fn finish(mut self) -> [u8; 16] {
        let bits = self.bytes.wrapping_mul(8);
        self.update(&[0x80]);
        while self.filled != BLOCK - 8 {
            self.update(&[0]);
        }
        self.update(&bits.to_le_bytes());
        let mut digest = [0; 16];
        for (out, word) in digest.chunks_exact_mut(4).zip(self.state) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }

    fn mix(&mut self) {
        let mut words = [0_u32; 16];
        for (word, four) in words.iter_mut().zip(self.block.chunks_exact(4)) {
            *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
        let [mut a, mut b, mut c, mut d] = self.state;
        for i in 0..BLOCK {
            let (f, at) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), 5 * i + 1),
                2 => (b ^ c ^ d, 3 * i + 5),
                _ => (c ^ (b | !d), 7 * i),
            };
            let sum = a.wrapping_add(f).wrapping_add(self.sines[i]).wrapping_add(words[at % 16]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (word, more) in self.state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        let vectors = [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ];
        for (text, hex) in vectors {
            for cut in 0..=text.len() {
                let mut md5 = Md5::new();
                md5.update(&text.as_bytes()[..cut]);
                md5.update(&text.as_bytes()[cut..]);
                let got: String = md5.finish().iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(got, hex, "{text}");
            }
        }
    }
}
