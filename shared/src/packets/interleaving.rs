//! How sound and picture lie beside each other in the file, from the place where each second of each stream begins. Used by
//! [`super::scan`] at its end. The order ffprobe reads in says nothing (its MP4 reader sorts), only places do.

use super::buckets::Buckets;

/// What was found for a pair of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Interleaving {
    /// Largest distance in bytes between the same second of both.
    pub(super) byte_distance: Option<u64>,
    /// Largest distance in seconds between what lies beside each other.
    pub(super) time_distance: Option<u64>,
    /// Seconds of a bucket.
    pub(super) width: u64,
}

/// Compares two streams. Both are given the wider of their buckets.
pub(super) fn interleaving(video: &mut Buckets, audio: &mut Buckets) -> Interleaving {
    let width = video.width().max(audio.width());
    video.widen(width);
    audio.widen(width);
    let (pictures, sounds): (Vec<_>, Vec<_>) = (video.places().collect(), audio.places().collect());
    let width = width.unsigned_abs();
    Interleaving {
        byte_distance: byte_distance(&pictures, &sounds),
        time_distance: time_distance(pictures, sounds).map(|buckets| buckets.saturating_mul(width)),
        width,
    }
}

fn byte_distance(pictures: &[(i64, u64)], sounds: &[(i64, u64)]) -> Option<u64> {
    let mut sounds = sounds.iter().peekable();
    let mut largest = None;
    for (number, place) in pictures {
        while sounds.next_if(|(other, _)| other < number).is_some() {}
        if let Some((_, other)) = sounds.next_if(|(other, _)| other == number) {
            largest = largest.max(Some(place.abs_diff(*other)));
        }
    }
    largest
}

/// Walks through the file and compares, at each place, how far both streams have come within the time that both cover. A
/// stream that has not begun yet counts with its first second.
fn time_distance(mut pictures: Vec<(i64, u64)>, mut sounds: Vec<(i64, u64)>) -> Option<u64> {
    let begin = pictures.first()?.0.max(sounds.first()?.0);
    let end = pictures.last()?.0.min(sounds.last()?.0);
    if begin > end {
        return None;
    }
    pictures.sort_by_key(|(_, place)| *place);
    sounds.sort_by_key(|(_, place)| *place);
    let (mut pictures, mut sounds) = (pictures.into_iter().peekable(), sounds.into_iter().peekable());
    let (mut picture, mut sound, mut largest) = (begin, begin, 0);
    loop {
        let is_picture = |sound: &(i64, u64)| pictures.peek().is_some_and(|picture| picture.1 <= sound.1);
        let is_picture = sounds.peek().map_or_else(|| true, is_picture);
        let next = if is_picture { pictures.next() } else { sounds.next() };
        let Some((number, _)) = next else { return Some(largest) };
        let here = number.clamp(begin, end);
        if is_picture {
            picture = here;
        } else {
            sound = here;
        }
        largest = largest.max(picture.abs_diff(sound));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(places: &[u64]) -> Vec<(i64, u64)> {
        (0..).zip(places.iter().copied()).collect()
    }

    #[test]
    fn one_after_the_other_is_as_far_as_the_file_is_long() {
        let (pictures, sounds) = (seconds(&[0, 10, 20, 30]), seconds(&[100, 101, 102, 103]));
        assert_eq!(byte_distance(&pictures, &sounds), Some(100));
        assert_eq!(time_distance(pictures, sounds), Some(3));
    }

    #[test]
    fn side_by_side_is_near() {
        let (pictures, sounds) = (seconds(&[0, 10, 20, 30]), seconds(&[5, 15, 25, 35]));
        assert_eq!(byte_distance(&pictures, &sounds), Some(5));
        assert_eq!(time_distance(pictures, sounds), Some(1));
    }

    #[test]
    fn without_places_nothing_is_known() {
        assert_eq!((byte_distance(&[], &seconds(&[1])), time_distance(vec![], seconds(&[1]))), (None, None));
    }

    #[test]
    fn a_late_start_and_an_early_end_are_no_distance() {
        let pictures = seconds(&[0, 10, 20, 30, 40, 50]);
        assert_eq!(time_distance(pictures, vec![(3, 31), (4, 41)]), Some(1));
    }
}
