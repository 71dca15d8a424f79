//! The check sums of FLAC (RFC 9639, 9.1.8 and 9.3), bit by bit: a few thousand bytes are no reason for a table. Used by the
//! walker of FLAC.
//! It knows nothing of frames.

/// CRC-8 of a frame's header. Of a header with its check sum it is zero.
pub(super) fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| {
        (0..8).fold(sum ^ byte, |sum, _| if sum & 0x80 == 0 { sum << 1 } else { sum << 1 ^ 0x07 })
    })
}

/// CRC-16 of a frame, continued by one byte. Over a frame with its check sum it is zero.
pub(super) fn crc16(sum: u16, byte: u8) -> u16 {
    (0..8).fold(sum ^ u16::from(byte) << 8, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x8005 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        assert_eq!(crc8(b"123456789"), 0xf4);
        assert_eq!(b"123456789".iter().fold(0, |sum, byte| crc16(sum, *byte)), 0xfee8);
    }
}
