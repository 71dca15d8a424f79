//! Lists, tags and disposition flags that stop growing at a bound while they are read. Used by [`super`] only.
//! The rest of an over-long list is parsed and thrown away, so the document still has to be valid JSON.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Scalar;
use crate::media::text::clean;
use crate::media::{MAX_DISPOSITIONS, MAX_TAG_KEY_BYTES, MAX_TAGS, MAX_TEXT_BYTES};

/// The visitor methods for scalar values where a container was expected: take them as an empty one.
macro_rules! anything_else {
    () => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}
pub(super) use anything_else;

/// Reads a list to its end and gives the default instead.
pub(super) fn skip<'de, T: Default, A: SeqAccess<'de>>(mut seq: A) -> Result<T, A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(T::default())
}

/// Reads an object to its end and gives the default instead.
fn skip_map<'de, T: Default, A: MapAccess<'de>>(mut map: A) -> Result<T, A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(T::default())
}

/// At most `MAX` values; the rest is skipped.
#[derive(Debug)]
pub(crate) struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Reader<T, MAX> {
            type Value = List<T, MAX>;

            anything_else!();

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() < MAX {
                    let Some(item) = seq.next_element()? else { return Ok(List(list)) };
                    list.push(item);
                }
                skip::<(), A>(seq)?;
                Ok(List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                skip_map(map)
            }
        }
        deserializer.deserialize_any(Reader::<T, MAX>(PhantomData))
    }
}

/// Tags of a container, stream, chapter or program: cleaned, bounded, sorted by name.
#[derive(Debug, Default)]
pub(crate) struct Tags(BTreeMap<String, String>);

impl Tags {
    /// A tag by its name. Muxers disagree about case (`encoder`, `ENCODER`), so an exact match only goes first.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let exact = self.0.get(name);
        let folded = || self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        exact.or_else(folded).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// A Matroska tag by its name, with or without a language suffix (`BPS`, `BPS-eng`).
    pub(crate) fn matroska(&self, name: &str) -> Option<&str> {
        let suffixed = || {
            let is_name = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
            self.0.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value.as_str())
        };
        self.0.get(name).map(String::as_str).or_else(suffixed)
    }

    /// All of them.
    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tags;

            anything_else!();

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Scalar>()? {
                    let key = clean(&key, MAX_TAG_KEY_BYTES);
                    if tags.len() < MAX_TAGS || tags.contains_key(&key) {
                        tags.extend(value.verbatim().map(|value| (key, clean(&value, MAX_TEXT_BYTES))));
                    }
                }
                Ok(Tags(tags))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tags, A::Error> {
                skip(seq)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The disposition flags that are set, in ffprobe's order.
#[derive(Debug, Default)]
pub(crate) struct Dispositions(Vec<String>);

impl Dispositions {
    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|set| set == flag)
    }

    /// All that are set.
    pub(crate) fn to_vec(&self) -> Vec<String> {
        self.0.clone()
    }
}

impl<'de> Deserialize<'de> for Dispositions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Dispositions;

            anything_else!();

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dispositions, A::Error> {
                let mut flags: Vec<String> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Scalar>()? {
                    let key = clean(&key, MAX_TAG_KEY_BYTES);
                    if value.integer() == Some(1) && flags.len() < MAX_DISPOSITIONS && !flags.contains(&key) {
                        flags.push(key);
                    }
                }
                Ok(Dispositions(flags))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Dispositions, A::Error> {
                skip(seq)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
