//! Reads ffprobe's JSON and counts each frame as it comes by: no list of frames is made. Called by the worker through
//! [`Plan::read`]. An answer that was cut off is told as far as it goes.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::plan::Plan;
use super::report::Frames;
use super::tally::Tally;
use crate::media::raw::Frame;

/// ffprobe's answer is not JSON, and no frame came before it broke.
#[derive(Debug, thiserror::Error)]
#[error("ffprobe's frames output is not valid JSON: {0}. Probe again; if it stays, ask for fewer frames.")]
pub struct MalformedFrames(serde_json::Error);

impl Plan {
    /// Counts the frames in the output of ffprobe under [`Plan::arguments`].
    pub fn read(&self, json: &str) -> Result<Frames, MalformedFrames> {
        let mut tally = Tally::new(self);
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = Document(&mut tally).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match read {
            Ok(()) => Ok(tally.report(true)),
            Err(_) if tally.frames() > 0 => Ok(tally.report(false)),
            Err(error) => Err(MalformedFrames(error)),
        }
    }
}

/// The whole answer.
struct Document<'t, 'p>(&'t mut Tally<'p>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with frames")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "frames" {
                map.next_value_seed(List(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The list of frames.
struct List<'t, 'p>(&'t mut Tally<'p>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of frames")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(frame) = seq.next_element::<Frame>()? {
            self.0.take(&frame);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
