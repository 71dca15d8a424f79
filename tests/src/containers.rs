//! Writers of container structure by hand: ISO boxes, EBML elements, transport stream packets, and checksums.
//!
//! Used by [`crate::bombs`], [`crate::exploits`] and [`crate::big`], which need files that no encoder writes: sizes that
//! lie, tables without data, holes of gigabytes. Nothing here checks whether the result makes sense.

pub mod ebml;
pub mod isobmff;
pub mod mpegts;

/// The CRC of PNG and Ogg-like formats: `reflected` polynomials run through the bits from below.
pub fn crc32_reflected(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The CRC of MPEG-2 sections: the same polynomial from above, without the last complement.
pub fn crc32_mpeg(bytes: &[u8]) -> u32 {
    crc32_from_above(u32::MAX, bytes)
}

/// The CRC of Ogg pages: from above, beginning with zero.
pub fn crc32_ogg(bytes: &[u8]) -> u32 {
    crc32_from_above(0, bytes)
}

fn crc32_from_above(start: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| match crc >> 31 {
            1 => (crc << 1) ^ 0x04c1_1db7,
            _ => crc << 1,
        })
    };
    bytes.iter().fold(start, step)
}
