//! Where uploads are kept, as `STORAGE_URL` says: a directory, or a place in a bucket with the keys of an S3 profile. Read by
//! [`super::FileArgs`]; connects to nothing.

use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, S3Profile};

/// The variable that every message names.
const VARIABLE: &str = "STORAGE_URL";
/// The longest name of an object below the prefix: an upload's id, `pieces`, a name.
const LONGEST_REST: &str = "00000000-0000-0000-0000-000000000000/pieces/00000000-0000-0000-0000-000000000000";

/// Where uploads are kept.
#[derive(Debug, Clone)]
pub enum StoragePlace {
    /// A directory that every API and worker has mounted.
    Directory(PathBuf),
    /// A place in a bucket.
    S3(Box<S3Place>),
}

/// A place in a bucket.
#[derive(Debug, Clone)]
pub struct S3Place {
    /// Where the store is, and whose keys are used.
    pub profile: S3Profile,
    /// The bucket.
    pub bucket: String,
    /// What every key begins with, without a slash at its end; empty for the whole bucket.
    pub prefix: String,
}

impl StoragePlace {
    /// Reads `file:///ABSOLUTE/DIRECTORY` or `s3://PROFILE/BUCKET/PREFIX`.
    pub(super) fn parse(text: &str, profiles: &[S3Profile]) -> Result<Self, ConfigError> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return S3Place::parse(rest, profiles).map(Box::new).map(Self::S3);
        }
        let dir = text.strip_prefix("file://").filter(|d| d.starts_with('/'));
        dir.map(|dir| Self::Directory(dir.into()))
            .ok_or_else(|| wrong(format!("'{text}' is neither a local directory nor a place in a bucket")))
    }
}

fn wrong(problem: String) -> ConfigError {
    let fix = "write file:///ABSOLUTE/DIRECTORY, or s3://PROFILE/BUCKET/PREFIX with a profile of S3_PROFILES_FILE";
    ConfigError::new(VARIABLE, problem, fix)
}

impl S3Place {
    fn parse(rest: &str, profiles: &[S3Profile]) -> Result<Self, ConfigError> {
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let Some(profile) = profiles.iter().find(|p| p.name == name) else {
            return Err(wrong(format!("there is no S3 profile '{name}'")));
        };
        let place = Self { profile: profile.clone(), bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        if !profile.allows(bucket, &place.key(LONGEST_REST)) {
            return Err(wrong(format!("the S3 profile '{name}' does not open '{bucket}/{prefix}'")));
        }
        Ok(place)
    }

    /// The key of an object below the prefix.
    pub fn key(&self, rest: &str) -> String {
        if self.prefix.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.prefix) }
    }

    /// Whether an object lies here, so that no job may name it: uploads are private. The profile does not count, because a
    /// store may go by several names and be reached with several keys.
    pub fn holds(&self, bucket: &str, key: &str) -> bool {
        let below = key.strip_prefix(&self.prefix).is_some_and(|rest| self.prefix.is_empty() || rest.starts_with('/'));
        bucket == self.bucket && below
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}/{}", self.profile.name, self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::S3Style;
    use super::*;

    fn profile(prefixes: &[&str]) -> S3Profile {
        S3Profile {
            name: "store".into(),
            endpoint: None,
            region: "eu-1".into(),
            access_key_id: "AK".into(),
            secret_access_key: "hush".into(),
            buckets: vec!["uploads".into()],
            prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(),
            style: S3Style::Path,
        }
    }

    #[test]
    fn it_is_a_directory_or_a_place_in_a_bucket() {
        let open = [profile(&[])];
        assert!(
            matches!(StoragePlace::parse("file:///data/up", &[]), Ok(StoragePlace::Directory(dir)) if dir == *"/data/up")
        );
        for (text, key) in [
            ("s3://store/uploads", "x"),
            ("s3://store/uploads/", "x"),
            ("s3://store/uploads/a", "a/x"),
            ("s3://store/uploads/a/b/", "a/b/x"),
        ] {
            let Ok(StoragePlace::S3(place)) = StoragePlace::parse(text, &open) else { panic!("{text}") };
            assert_eq!(place.key("x"), key, "{text}");
        }
        assert!(StoragePlace::parse("s3://store/uploads/a", &[profile(&["a"])]).is_ok());
    }

    #[test]
    fn what_cannot_be_used_names_the_variable() {
        let profiles = [profile(&["a/"])];
        for bad in [
            "/data",
            "file://data",
            "",
            "s3://",
            "s3://store",
            "s3://store/",
            "s3://other/uploads/a",
            "s3://store/other/a",
            "s3://store/uploads",
            "s3://store/uploads/b",
            "s3://store/uploads/ab",
            "s3://store/uploads/a/../b",
            "s3://store/uploads/a//b",
            "s3:///uploads/a",
        ] {
            let message = StoragePlace::parse(bad, &profiles).unwrap_err().to_string();
            assert!(message.starts_with("STORAGE_URL: ") && message.contains("Fix: "), "{bad}: {message}");
        }
        let long = format!("s3://store/uploads/{}", "a".repeat(1000));
        assert!(StoragePlace::parse(&long, &[profile(&[])]).is_err());
    }

    #[test]
    fn it_holds_what_lies_below_its_prefix() {
        let place = |prefix: &str| S3Place { profile: profile(&[]), bucket: "uploads".into(), prefix: prefix.into() };
        assert!(place("a").holds("uploads", "a/x") && place("").holds("uploads", "x"));
        assert!(!place("a").holds("uploads", "ab/x") && !place("a").holds("media", "a/x"));
    }
}
