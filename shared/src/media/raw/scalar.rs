//! One value as ffprobe prints it: a string, a number, or a number inside a string, with several ways to say
//! "unknown". Used by [`super`] and, through it, by every file that reads a field. It never fails and never overflows.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::media::MAX_TEXT_BYTES;
use crate::media::text::clean;

/// Words ffprobe prints where it does not know a value.
const UNKNOWN: [&str; 3] = ["N/A", "unknown", ""];

/// One value of any JSON type; lists and objects count as unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Scalar {
    /// Missing, null, a list or an object.
    #[default]
    Unknown,
    /// Cleaned and bounded text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number that is not whole or does not fit, always finite.
    Number(f64),
}

impl Scalar {
    /// The text, unless it says that the value is not known.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !UNKNOWN.contains(&text.as_str()) => Some(text),
            _ => None,
        }
    }

    /// The text or the number as text, unless it says that the value is not known.
    pub(crate) fn word(&self) -> Option<String> {
        match self {
            Self::Integer(number) => Some(number.to_string()),
            _ => self.text().map(str::to_owned),
        }
    }

    /// The value as text whatever it says: for tags, where "N/A" is what somebody wrote.
    pub(super) fn verbatim(self) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Text(text) => Some(text),
            Self::Integer(number) => Some(number.to_string()),
            Self::Number(number) => Some(number.to_string()),
        }
    }

    /// A whole number, also from a string.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A whole number of at least one: for sizes, rates and counts, where ffprobe prints 0 for unknown.
    pub(crate) fn positive<T: TryFrom<i64>>(&self) -> Option<T> {
        self.integer().filter(|number| *number > 0).and_then(|number| T::try_from(number).ok())
    }

    /// A whole number of at least zero.
    pub(crate) fn positive_or_zero<T: TryFrom<i64>>(&self) -> Option<T> {
        self.integer().filter(|number| *number >= 0).and_then(|number| T::try_from(number).ok())
    }

    /// A finite number, also from a string.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Unknown => None,
        }
    }

    /// A fraction (`30000/1001`) with a denominator other than zero.
    pub(crate) fn fraction(&self) -> Option<(i64, i64)> {
        let (num, den) = self.text()?.split_once('/')?;
        let (num, den) = (num.trim().parse().ok()?, den.trim().parse().ok()?);
        (den != 0).then_some((num, den))
    }

    /// A fraction or a plain number as a number.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let fraction = self.fraction().map(|(num, den)| num as f64 / den as f64);
        fraction.or_else(|| self.number())
    }

    /// Whether a flag printed as 0 or 1 is set.
    pub(crate) fn flag(&self) -> Option<bool> {
        match self.integer() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Scalar;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(value).map_or(Scalar::Number(value as f64), Scalar::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(if value.is_finite() { Scalar::Number(value) } else { Scalar::Unknown })
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(clean(value, MAX_TEXT_BYTES)))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Unknown)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Unknown)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Unknown)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::Scalar;

    fn scalar(json: &str) -> Scalar {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn reads_numbers_from_strings_and_never_overflows() {
        assert_eq!(scalar(r#""48000""#).positive::<u32>(), Some(48000));
        assert_eq!(scalar("99999999999999999999").integer(), None);
        assert_eq!(scalar(r#""99999999999999999999""#).integer(), None);
        assert_eq!(scalar("18446744073709551615").positive::<u64>(), None);
        assert_eq!(scalar("5000000000").positive::<u32>(), None);
        assert_eq!(scalar("-1").positive_or_zero::<u64>(), None);
        assert_eq!(scalar(r#""nan""#).number(), None);
        assert_eq!(scalar(r#""1e999""#).number(), None);
        assert_eq!(scalar(r#""-0.007000""#).number(), Some(-0.007));
    }

    #[test]
    fn unknown_has_many_spellings() {
        for json in [r#""N/A""#, r#""unknown""#, r#""""#, "null", "[1,[2]]", r#"{"a":{}}"#] {
            assert_eq!(scalar(json).text(), None, "{json}");
            assert_eq!(scalar(json).number(), None, "{json}");
        }
        assert_eq!(scalar(r#""N/A""#).verbatim().as_deref(), Some("N/A"));
    }

    #[test]
    fn fractions_need_a_denominator() {
        assert_eq!(scalar(r#""30000/1001""#).fraction(), Some((30000, 1001)));
        for json in [r#""0/0""#, r#""1/0""#, r#""1""#, r#""a/b""#, r#""1/2/3""#, r#""9999999999999999999/1""#] {
            assert_eq!(scalar(json).fraction(), None, "{json}");
        }
        assert_eq!(scalar(r#""34000/50000""#).ratio(), Some(0.68));
    }
}
