//! Text copied from a hostile file, made safe to store: bounded, cut between characters, without NUL (PostgreSQL's
//! jsonb refuses it). Called wherever [`super::raw`] takes a string. It never changes other characters.

/// `value` without NUL and with at most `max` bytes.
pub(super) fn clean(value: &str, max: usize) -> String {
    let mut kept = String::with_capacity(value.len().min(max));
    for character in value.chars().filter(|&character| character != '\0') {
        if kept.len() + character.len_utf8() > max {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn cuts_between_characters_and_drops_nul() {
        assert_eq!(clean("a\0b", 10), "ab");
        assert_eq!(clean("aéé", 4), "aé");
        assert_eq!(clean("aé", 0), "");
    }
}
