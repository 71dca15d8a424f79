//! ffprobe's standard error as messages, and the bounded list of warnings that a client sees. Pure; the text comes from
//! a hostile file as likely as not, so everything is cut and nothing is believed.

/// Most kinds of message in a result.
const MAX_WARNINGS: usize = 50;
/// Longest warning, in bytes.
const MAX_WARNING_BYTES: usize = 500;

/// How the address of a remote input begins; a random word follows.
const LOOPBACK: &str = "http://127.0.0.1:";

/// One line of ffprobe's log, as written under `-v +level+…`: `[mpegts @ 0x55…] [warning] Packet corrupt (…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// The demuxer, decoder or protocol that wrote it; empty if it was ffprobe itself.
    pub(super) component: &'a str,
    /// What it says, without our name for the input.
    pub(super) text: &'a str,
    /// How often in a row.
    pub(super) times: u64,
}

/// The messages of a log. Lines without a level are left out: they continue another one with advice on ffprobe's
/// options, or come from a library that prints for itself.
pub(super) fn messages(stderr: &str) -> Vec<Message<'_>> {
    let mut messages: Vec<Message<'_>> = Vec::new();
    for line in stderr.lines() {
        if let Some(times) = repeated(line) {
            if let Some(last) = messages.last_mut() {
                last.times = last.times.saturating_add(times);
            }
        } else if let Some((component, text)) = parse(line) {
            messages.push(Message { component, text, times: 1 });
        }
    }
    messages
}

/// `    Last message repeated 3 times`
fn repeated(line: &str) -> Option<u64> {
    line.trim().strip_prefix("Last message repeated ")?.strip_suffix(" times")?.parse().ok()
}

fn parse(line: &str) -> Option<(&str, &str)> {
    let (mut component, mut rest) = ("", line);
    loop {
        let (bracket, after) = rest.strip_prefix('[')?.split_once("] ")?;
        rest = after;
        match bracket.split_once(" @ 0x") {
            // the innermost of several; a demuxer with many names goes by its first
            Some((name, _address)) => component = name.split(',').next().unwrap_or(name),
            None if matches!(bracket, "warning" | "error" | "fatal" | "panic") => break,
            None => return None,
        }
    }
    let text = without_input(rest).trim();
    (!text.is_empty()).then_some((component, text))
}

/// What follows our name for the input: the fixed one of a file, or an address on loopback.
fn without_input(text: &str) -> &str {
    let after_file = text.strip_prefix(super::INPUT).and_then(|rest| rest.strip_prefix(": "));
    let after_server = || text.strip_prefix(LOOPBACK)?.split_once(": ").map(|(_address, rest)| rest);
    after_file.or_else(after_server).unwrap_or(text)
}

/// What ffprobe complained of, in the order of first appearance, like messages (but for their numbers) as one.
pub(super) fn warnings(stderr: &str) -> Vec<String> {
    struct Kind<'a> {
        key: String,
        first: Message<'a>,
        times: u64,
    }
    let (mut kinds, mut others): (Vec<Kind<'_>>, u64) = (Vec::new(), 0);
    for message in messages(stderr) {
        let key = format!("{}:{}", message.component, without_numbers(message.text));
        match kinds.iter().position(|k| k.key == key) {
            Some(at) => kinds[at].times = kinds[at].times.saturating_add(message.times),
            None if kinds.len() < MAX_WARNINGS => kinds.push(Kind { key, first: message, times: message.times }),
            None => others = others.saturating_add(message.times),
        }
    }
    let mut warnings: Vec<String> = kinds.into_iter().map(|kind| show(kind.first, kind.times)).collect();
    if others > 0 {
        warnings.truncate(MAX_WARNINGS - 1);
        warnings.push(format!("More than {MAX_WARNINGS} kinds of message; the others are left out."));
    }
    warnings
}

fn show(message: Message<'_>, times: u64) -> String {
    let Message { component, text, .. } = message;
    let count = if times > 1 { format!(" ({times} times)") } else { String::new() };
    let from = if component.is_empty() { String::new() } else { format!("{component}: ") };
    let room = MAX_WARNING_BYTES.saturating_sub(count.len());
    format!("{}{count}", cut(&format!("{from}{text}"), room))
}

/// The text, or its beginning and an ellipsis if it has more than `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// The text with each number, decimal or hexadecimal, as `#`.
fn without_numbers(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            key.push('#');
            key.push_str(&part[word.len()..]);
        } else {
            key.push_str(part);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[mpegts @ 0x55c0b2ce1480] [warning] Packet corrupt (stream = 0, dts = 128090).\n\
        [mpegts @ 0x55c0b2ce1480] [warning] Packet corrupt (stream = 0, dts = 131690).\n\
        [mov,mp4,m4a,3gp,3g2,mj2 @ 0x1] [h264 @ 0x2] [error] PPS id out of range: 0\n\
        \x20   Last message repeated 3 times\n\
        Consider increasing the value for the 'analyzeduration' (0) and 'probesize' (5000000) options\n\
        Warning: using insecure memory!\n\
        [error] file:/dev/fd/0: Invalid data found when processing input\n\
        [mov @ 0x1] no level here\n";

    #[test]
    fn messages_lose_addresses_levels_and_our_alias() {
        let seen: Vec<_> = messages(LOG).into_iter().map(|m| (m.component, m.text, m.times)).collect();
        assert_eq!(
            seen,
            [
                ("mpegts", "Packet corrupt (stream = 0, dts = 128090).", 1),
                ("mpegts", "Packet corrupt (stream = 0, dts = 131690).", 1),
                ("h264", "PPS id out of range: 0", 4),
                ("", "Invalid data found when processing input", 1),
            ]
        );
    }

    #[test]
    fn like_warnings_are_counted() {
        assert_eq!(
            warnings(LOG),
            [
                "mpegts: Packet corrupt (stream = 0, dts = 128090). (2 times)",
                "h264: PPS id out of range: 0 (4 times)",
                "Invalid data found when processing input",
            ]
        );
    }

    #[test]
    fn warnings_are_bounded() {
        let kinds: String = ('a'..='z')
            .flat_map(|a| ('a'..='z').map(move |b| format!("[error] {a}{b}{}\n", "ä".repeat(600))))
            .collect();
        let warnings = warnings(&kinds);
        assert_eq!(warnings.len(), MAX_WARNINGS);
        assert!(warnings.iter().all(|w| w.len() <= MAX_WARNING_BYTES));
        assert!(warnings[0].ends_with('…') && warnings[MAX_WARNINGS - 1].starts_with("More than"));
    }
}
