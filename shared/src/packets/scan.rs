//! The scan of one file: cuts ffprobe's output into lines, whatever pieces it comes in, and gives each packet to its
//! stream. Called by the worker while ffprobe runs. It keeps the last piece of a line and no packet.

use super::line::{self, Packet};
use super::report::{AudioVideo, Packets, StreamPackets};
use super::series::Series;
use super::stream::StreamScan;
use super::{MAX_BUCKETS, MAX_BUCKETS_OF_ALL, MAX_LINE_BYTES, MAX_STREAMS, StreamInfo, StreamKind, interleaving};

/// Fewest buckets of a stream, however many streams there are.
const MIN_BUCKETS: usize = MAX_BUCKETS_OF_ALL / MAX_STREAMS;

/// A scan that is going on.
#[derive(Debug)]
pub struct Scan {
    streams: Vec<StreamScan>,
    /// Place in `streams` of each index of ffprobe's.
    by_index: Vec<Option<usize>>,
    rest: Vec<u8>,
    packets: u64,
    end: Option<u64>,
    unparsed: u64,
    unknown: u64,
}

impl Scan {
    /// A scan of a file with these streams; those beyond [`MAX_STREAMS`] and repeated indices are left out.
    pub fn new(streams: &[StreamInfo]) -> Self {
        let known = streams.len().clamp(1, MAX_STREAMS);
        let most_buckets = (MAX_BUCKETS_OF_ALL / known).clamp(MIN_BUCKETS, MAX_BUCKETS);
        let mut by_index = vec![None; MAX_STREAMS];
        let mut scans = Vec::new();
        for info in streams {
            let place = usize::try_from(info.index).ok().and_then(|index| by_index.get_mut(index));
            if let Some(place @ None) = place {
                *place = Some(scans.len());
                scans.push(StreamScan::new(*info, most_buckets));
            }
        }
        let rest = Vec::with_capacity(MAX_LINE_BYTES);
        Self { streams: scans, by_index, rest, packets: 0, end: None, unparsed: 0, unknown: 0 }
    }

    /// Takes the next piece of ffprobe's output.
    pub fn push(&mut self, piece: &[u8]) {
        let mut left = piece;
        if !self.rest.is_empty() {
            let Some(end) = left.iter().position(|byte| *byte == b'\n') else { return self.keep(left) };
            self.keep(&left[..end]);
            left = &left[end + 1..];
            let line = std::mem::take(&mut self.rest);
            self.line(&line);
            self.rest = line;
            self.rest.clear();
        }
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            self.line(&left[..end]);
            left = &left[end + 1..];
        }
        self.keep(left);
    }

    /// Keeps the beginning of a line until its end comes. What is too long to be a packet's is cut, which leaves it as
    /// long as no packet's line is.
    fn keep(&mut self, part: &[u8]) {
        let room = (MAX_LINE_BYTES + 1).saturating_sub(self.rest.len());
        self.rest.extend_from_slice(&part[..part.len().min(room)]);
    }

    #[inline]
    fn line(&mut self, line: &[u8]) {
        // ffprobe leaves an empty line where a packet's side data would stand
        if line.is_empty() {
            return;
        }
        match if line.len() > MAX_LINE_BYTES { None } else { line::parse(line) } {
            Some(packet) => self.packet(&packet),
            None => self.unparsed += 1,
        }
    }

    #[inline]
    fn packet(&mut self, packet: &Packet) {
        self.packets += 1;
        if let Some(position) = packet.position {
            self.end = self.end.max(Some(position.saturating_add(packet.size)));
        }
        let place = usize::try_from(packet.stream).ok().and_then(|index| *self.by_index.get(index)?);
        match place.and_then(|place| self.streams.get_mut(place)) {
            Some(stream) => stream.take(packet),
            None => self.unknown += 1,
        }
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The furthest byte of the file that a packet reached so far: for telling progress.
    pub fn end_bytes(&self) -> Option<u64> {
        self.end
    }

    /// Ends the scan. The series are those of the streams that had packets with times.
    pub fn finish(mut self, file_bytes: u64) -> (Packets, Vec<Series>) {
        if !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            self.line(&line);
        }
        let series = self.streams.iter().map(|stream| stream.buckets.series(stream.info().index));
        let series = series.filter(|series| series.range_seconds().0 < series.range_seconds().1).collect();
        let beside = self.beside();
        let streams: Vec<StreamPackets> = self.streams.into_iter().map(StreamScan::report).collect();
        let end = self.end.map(|end| if file_bytes > 0 { end.min(file_bytes) } else { end });
        let packets = Packets {
            packets: self.packets,
            bytes: streams.iter().fold(0, |bytes, stream| bytes.saturating_add(stream.bytes)),
            file_bytes,
            end_bytes: end,
            coverage: end.filter(|_| file_bytes > 0).map(|end| end as f64 / file_bytes as f64),
            unparsed_lines: self.unparsed,
            unknown_stream_packets: self.unknown,
            audio_video: beside.into_iter().map(|pair| with_offsets(pair, &streams)).collect(),
            streams,
        };
        (packets, series)
    }

    /// The first video stream beside each audio stream, without the offsets.
    fn beside(&mut self) -> Vec<AudioVideo> {
        let is_video = |stream: &StreamScan| stream.info().kind == StreamKind::Video;
        let first = self.streams.iter().position(is_video).unwrap_or(self.streams.len());
        let (before, from) = self.streams.split_at_mut(first);
        let Some((video, after)) = from.split_first_mut() else { return Vec::new() };
        let sounds = before.iter_mut().chain(after).filter(|stream| stream.info().kind == StreamKind::Audio);
        let pair = |audio: &mut StreamScan| {
            let found = interleaving::interleaving(&mut video.buckets, &mut audio.buckets);
            AudioVideo {
                video_index: video.info().index,
                audio_index: audio.info().index,
                start_offset_seconds: None,
                end_offset_seconds: None,
                byte_distance: found.byte_distance,
                time_distance_seconds: found.time_distance,
                resolution_seconds: found.byte_distance.map(|_| found.width),
            }
        };
        sounds.map(pair).collect()
    }
}

fn with_offsets(pair: AudioVideo, streams: &[StreamPackets]) -> AudioVideo {
    let shown = |index| streams.iter().find(|stream| stream.index == index)?.presentation.as_ref();
    let Some((video, audio)) = shown(pair.video_index).zip(shown(pair.audio_index)) else { return pair };
    AudioVideo {
        start_offset_seconds: Some(audio.start_seconds - video.start_seconds),
        end_offset_seconds: Some(audio.end_seconds - video.end_seconds),
        ..pair
    }
}

#[cfg(test)]
mod tests;
