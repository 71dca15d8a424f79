//! Members of a change that may be left out, which leaves things as they are, or be null, which takes them away. For bodies
//! of `PATCH`; serde alone does not tell the two apart.

use serde::{Deserialize, Deserializer};

/// What a member that is there says; null is `None`. With `#[serde(default)]`, one that is not there is no `Some`.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(member: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(member).map(Some)
}

/// What a member that is there says, of those that cannot be taken away: null is refused. With `#[serde(default)]`, one that is
/// not there is none.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(member: D) -> Result<Option<T>, D::Error> {
    T::deserialize(member).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "given")]
        a: Option<Option<u8>>,
    }

    #[test]
    fn null_is_not_absence() {
        let a = |text: &str| serde_json::from_str::<Body>(text).map(|b| b.a).ok();
        assert_eq!(a("{}"), Some(None));
        assert_eq!(a(r#"{"a": null}"#), Some(Some(None)));
        assert_eq!(a(r#"{"a": 3}"#), Some(Some(Some(3))));
        assert_eq!(a(r#"{"a": "3"}"#), None);
    }
}
