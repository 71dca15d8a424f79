//! MPEG transport streams: packets of 188 bytes, and the tables that name programs and streams. Used by the writers of
//! bombs. Program clock references are left out: no reader of headers misses them.

use super::crc32_mpeg;

/// Bytes of a packet.
pub const PACKET: usize = 188;
/// What a packet carries at most after its head.
const ROOM: usize = PACKET - 4;

/// One packet that begins a unit: a section or a PES packet. What is short is filled up within the adaptation field.
pub fn packet(pid: u16, counter: u8, payload: &[u8]) -> [u8; PACKET] {
    let mut packet = [0xff; PACKET];
    packet[0] = 0x47;
    packet[1..3].copy_from_slice(&(0x4000 | pid).to_be_bytes());
    let payload = &payload[..payload.len().min(ROOM)];
    let spare = ROOM - payload.len();
    packet[3] = if spare > 0 { 0x30 } else { 0x10 } | (counter & 0xf);
    if spare > 0 {
        packet[4] = u8::try_from(spare - 1).expect("less than a packet");
    }
    if spare > 1 {
        packet[5] = 0;
    }
    packet[PACKET - payload.len()..].copy_from_slice(payload);
    packet
}

/// A section cut into packets.
pub fn section(pid: u16, table: u8, id: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 9).expect("a section");
    let mut section = vec![table];
    section.extend_from_slice(&(0xb000 | length).to_be_bytes());
    section.extend_from_slice(&id.to_be_bytes());
    section.extend_from_slice(&[0xc1, 0, 0]);
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32_mpeg(&section).to_be_bytes());
    section.insert(0, 0); // where in the payload it begins
    let mut packets = Vec::new();
    for (number, part) in section.chunks(ROOM).enumerate() {
        let mut one = packet(pid, number as u8, part);
        if number > 0 {
            one[1] &= !0x40;
        }
        if part.len() < ROOM {
            // sections are filled up after their end, not before
            one[3] = 0x10 | (number as u8 & 0xf);
            one[4..4 + part.len()].copy_from_slice(part);
            one[4 + part.len()..].fill(0xff);
        }
        packets.extend_from_slice(&one);
    }
    packets
}

/// The program association table: (program, PID of its map).
pub fn pat(programs: &[(u16, u16)]) -> Vec<u8> {
    let body: Vec<u8> =
        programs.iter().flat_map(|(p, pid)| [p.to_be_bytes(), (0xe000 | pid).to_be_bytes()].concat()).collect();
    section(0, 0, 1, &body)
}

/// A program map: (stream type, PID).
pub fn pmt(pid: u16, program: u16, streams: &[(u8, u16)]) -> Vec<u8> {
    let mut body = vec![0xff, 0xff, 0xf0, 0]; // no clock, no descriptors
    for (kind, pid) in streams {
        body.push(*kind);
        body.extend_from_slice(&(0xe000 | pid).to_be_bytes());
        body.extend_from_slice(&[0xf0, 0]);
    }
    section(pid, 2, program, &body)
}

/// The head of a PES packet of unknown length with a time stamp of `ticks` (90 kHz).
pub fn pes(stream_id: u8, ticks: u64) -> Vec<u8> {
    let byte = |shift: u32| (ticks >> shift) as u8;
    vec![
        0,
        0,
        1,
        stream_id,
        0,
        0,
        0x80,
        0x80,
        5,
        0x21 | (byte(29) & 0x0e),
        byte(22),
        byte(14) | 1,
        byte(7),
        (byte(0) << 1) | 1,
    ]
}
