//! One line of ffprobe's CSV, read by hand over bytes: the hot path of a scan. Called by [`super::scan`] only. A line that
//! is not a packet is none; it never fails and never overflows.

/// A packet as its line states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    /// ffprobe's stream index.
    pub(super) stream: u32,
    /// Presentation time in ticks.
    pub(super) pts: Option<i64>,
    /// Decoding time in ticks.
    pub(super) dts: Option<i64>,
    /// Ticks it lasts; 0 when not stated.
    pub(super) duration: i64,
    /// Bytes.
    pub(super) size: u64,
    /// Byte of the file where it begins.
    pub(super) position: Option<u64>,
    /// Its flags.
    pub(super) flags: Flags,
}

/// The flags of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags {
    /// A picture that needs no other.
    pub(super) key: bool,
    /// To be decoded but not shown.
    pub(super) discard: bool,
    /// Known to be damaged; `None` where this ffprobe does not say.
    pub(super) corrupt: Option<bool>,
}

/// Reads a line without its end. What follows the flags, as after packets with side data, is not looked at.
#[inline]
pub(super) fn parse(line: &[u8]) -> Option<Packet> {
    let (stream, rest) = number(line)?;
    let stream = u32::try_from(stream?).ok()?;
    let (pts, rest) = number(rest)?;
    let (dts, rest) = number(rest)?;
    let (duration, rest) = number(rest)?;
    let (size, rest) = number(rest)?;
    let (position, rest) = number(rest)?;
    Some(Packet {
        stream,
        pts,
        dts,
        duration: duration.unwrap_or(0).max(0),
        size: u64::try_from(size?).ok()?,
        position: position.and_then(|position| u64::try_from(position).ok()),
        flags: flags(rest)?,
    })
}

/// A whole number, `N/A` or nothing, up to a comma, and what stands behind the comma.
#[inline]
fn number(text: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, text.get(1..)?),
        b',' => return Some((None, text.get(1..)?)),
        b'N' => return Some((None, text.strip_prefix(b"N/A,")?)),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
        } else if *byte == b',' && at > 0 {
            return Some((Some(if negative { -value } else { value }), digits.get(at + 1..)?));
        } else {
            return None;
        }
    }
    None
}

#[inline]
fn flags(text: &[u8]) -> Option<Flags> {
    let mut flags = Flags::default();
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'K' => flags.key = true,
            b'D' => flags.discard = true,
            b'C' => flags.corrupt = Some(true),
            b'_' if at == 2 => flags.corrupt = Some(false),
            b'_' => {}
            b',' if at > 0 => return Some(flags),
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = (u32, Option<i64>, Option<i64>, i64, u64, Option<u64>);

    fn fields(line: &str) -> Option<Fields> {
        parse(line.as_bytes()).map(|p| (p.stream, p.pts, p.dts, p.duration, p.size, p.position))
    }

    /// Lines as ffprobe 5.1 printed them for MP4, Matroska, MPEG-TS and AVI.
    #[test]
    fn reads_what_ffprobe_prints() {
        assert_eq!(fields("0,0,-1024,512,7606,48,K_"), Some((0, Some(0), Some(-1024), 512, 7606, Some(48))));
        assert_eq!(fields("0,23,N/A,40,7606,741,K_"), Some((0, Some(23), None, 40, 7606, Some(741))));
        assert_eq!(fields("1,133200,133200,2089,265,N/A,K_"), Some((1, Some(133_200), Some(133_200), 2089, 265, None)));
        assert_eq!(fields("0,N/A,0,1,7641,9998,K_"), Some((0, None, Some(0), 1, 7641, Some(9998))));
        assert_eq!(fields("2,5,5,N/A,10,7,__,"), Some((2, Some(5), Some(5), 0, 10, Some(7))));
        assert_eq!(fields("2,,,,10,,__"), Some((2, None, None, 0, 10, None)));
    }

    #[test]
    fn flags_of_old_and_new_ffprobe() {
        let of = |flags: &str| parse(format!("0,1,1,1,1,1,{flags}").as_bytes()).map(|p| p.flags);
        assert_eq!(of("KD,"), Some(Flags { key: true, discard: true, corrupt: None }));
        assert_eq!(of("__"), Some(Flags::default()));
        assert_eq!(of("K__,MPEGTS Stream ID,192"), Some(Flags { key: true, discard: false, corrupt: Some(false) }));
        assert_eq!(of("__C"), Some(Flags { key: false, discard: false, corrupt: Some(true) }));
        assert_eq!((of(""), of("x"), of(",")), (None, None, None));
    }

    #[test]
    fn what_is_no_packet_is_none() {
        for line in [
            "",
            "\u{0}",
            "Skip Samples,0,312,0,0,0,K_",
            "0,1,1,1,1,1",
            "N/A,1,1,1,1,1,K_",
            "-1,1,1,1,1,1,K_",
            "0,1,1,1,-1,1,K_",
            "0,1,1,1,N/A,1,K_",
            "0,-,1,1,1,1,K_",
            "0,1.5,1,1,1,1,K_",
            "0,9223372036854775808,1,1,1,1,K_",
            "99999999999,1,1,1,1,1,K_",
            "0,1,1,1,1,1,K_\r",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }
}
