//! S3 profiles: where buckets are, with whose keys, and what of them tenants may name. `main` reads them once from the file
//! that S3_PROFILES_FILE names; the API asks [`S3Profile::allows`] at submission, the worker once more before it reads.
//! Connects to nothing, and no message or `Debug` shows a secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{ConfigError, read_secret};

/// The variable that every message names.
const VARIABLE: &str = "S3_PROFILES_FILE";
/// Largest file of profiles that is read.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Most profiles, and most buckets or prefixes of one.
const ENTRIES_MAX: usize = 256;
/// Longest key (S3's own limit).
const KEY_MAX_BYTES: usize = 1024;

/// Where S3 profiles are described.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "S3")]
pub struct S3Args {
    /// File of S3 profiles (JSON): {"NAME": {"region": …, "access_key_id": …, "secret_access_key_file": …, "buckets": […]}}
    #[arg(long, env)]
    pub s3_profiles_file: Option<PathBuf>,
}

/// A store with the keys for it, and what of it may be named.
#[derive(Debug, Clone)]
pub struct S3Profile {
    /// Its name, used in requests and grants.
    pub name: String,
    /// Where the store is; none for Amazon's own in the region.
    pub endpoint: Option<Url>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whose requests these are.
    pub access_key_id: String,
    /// What proves it.
    pub secret_access_key: SecretString,
    /// Buckets that may be named; at least one.
    pub buckets: Vec<String>,
    /// Keys must lie below one of these; empty for all keys.
    pub prefixes: Vec<String>,
    /// How the bucket's name becomes part of the address.
    pub style: S3Style,
}

/// How a bucket is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Style {
    /// `https://ENDPOINT/BUCKET/KEY`
    Path,
    /// `https://BUCKET.ENDPOINT/KEY`
    VirtualHost,
}

/// A profile as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    endpoint: Option<String>,
    #[serde(default = "default_region")]
    region: String,
    access_key_id: String,
    secret_access_key: Option<SecretText>,
    secret_access_key_file: Option<PathBuf>,
    buckets: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    path_style: bool,
    #[serde(default)]
    allow_http: bool,
}

/// Text that becomes a secret at once.
#[derive(Deserialize)]
#[serde(from = "String")]
struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Where Amazon's API answers for every region.
fn default_region() -> String {
    "us-east-1".to_owned()
}

impl S3Args {
    /// The profiles, in the order of their names; none without a file.
    pub fn profiles(&self) -> Result<Vec<S3Profile>, ConfigError> {
        let Some(file) = self.s3_profiles_file.as_deref() else { return Ok(Vec::new()) };
        let unreadable = |e| {
            ConfigError::new(
                VARIABLE,
                format!("{} cannot be read: {e}", file.display()),
                "name a file this user may read",
            )
        };
        let size = std::fs::metadata(file).map_err(unreadable)?.len();
        if size > FILE_MAX_BYTES {
            return Err(wrong(format!("{} has {size} bytes, at most {FILE_MAX_BYTES} are read", file.display())));
        }
        parse(&std::fs::read_to_string(file).map_err(unreadable)?)
    }
}

fn wrong(problem: String) -> ConfigError {
    ConfigError::new(VARIABLE, problem, "describe each profile as docs/configuration.md shows")
}

/// Reads the text of a file of profiles, and the files of secrets it names.
fn parse(text: &str) -> Result<Vec<S3Profile>, ConfigError> {
    let written: BTreeMap<String, Written> = serde_json::from_str(text).map_err(|e| {
        // other messages repeat what stands there, which may be a secret
        let message = e.to_string();
        let known = ["unknown field", "missing field", "duplicate field"].iter().any(|w| message.starts_with(w));
        let what = if known { message } else { format!("something else was expected at line {}", e.line()) };
        wrong(format!("it is not a file of profiles: {what}"))
    })?;
    if written.len() > ENTRIES_MAX {
        return Err(wrong(format!("it has {} profiles, at most {ENTRIES_MAX} are taken", written.len())));
    }
    written.into_iter().map(|(name, profile)| profile.check(name)).collect()
}

impl Written {
    /// Reads an endpoint, which is an origin and nothing more. What goes over plain HTTP can be read and changed on the
    /// way, so that is only done where it was asked for.
    fn endpoint(&self, text: &str) -> Result<Url, &'static str> {
        let url = Url::parse(text).map_err(|_| "endpoint is not a URL")?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() || url.host().is_none() {
            return Err("endpoint is more or less than https://HOST or https://HOST:PORT");
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.allow_http => Ok(url),
            "http" => Err("endpoint is plain http; use https, or write \"allow_http\": true"),
            _ => Err("endpoint does not begin with https"),
        }
    }

    fn check(self, name: String) -> Result<S3Profile, ConfigError> {
        let about = |problem: &str| wrong(format!("profile '{name}': {problem}"));
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !(1..=32).contains(&name.len()) || !plain(&name) {
            return Err(about("a name has 1 to 32 letters, digits, '-' or '_'"));
        }
        if self.region.is_empty() || !plain(&self.region) {
            return Err(about("region is not one, such as eu-central-1"));
        }
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !visible(&self.access_key_id) {
            return Err(about("access_key_id is empty or holds characters that no key has"));
        }
        let endpoint = self.endpoint.as_deref().map(|text| self.endpoint(text)).transpose().map_err(about)?;
        if !(1..=ENTRIES_MAX).contains(&self.buckets.len()) || self.prefixes.len() > ENTRIES_MAX {
            return Err(about(&format!("it needs 1 to {ENTRIES_MAX} buckets, and at most as many prefixes")));
        }
        if let Some(bucket) = self.buckets.iter().find(|b| !is_bucket(b)) {
            return Err(about(&format!("'{bucket}' is not the name of a bucket")));
        }
        if let Some(prefix) = self.prefixes.iter().find(|p| !is_key(p.strip_suffix('/').unwrap_or(p))) {
            return Err(about(&format!("'{prefix}' is not a prefix such as public/")));
        }
        let secret = self.secret_access_key.map(|s| s.0);
        let secret = read_secret(VARIABLE, secret.as_ref(), self.secret_access_key_file.as_deref())
            .map_err(|e| about(&format!("its secret_access_key: {}", e.problem)))?
            .ok_or_else(|| about("it has neither secret_access_key nor secret_access_key_file"))?;
        let style = if self.path_style { S3Style::Path } else { S3Style::VirtualHost };
        let (region, buckets, prefixes) = (self.region, self.buckets, self.prefixes);
        let access_key_id = self.access_key_id;
        Ok(S3Profile { name, endpoint, region, access_key_id, secret_access_key: secret, buckets, prefixes, style })
    }
}

impl S3Profile {
    /// The secret itself, for signing and nothing else.
    pub fn expose_secret(&self) -> &str {
        self.secret_access_key.expose_secret()
    }

    /// The address of the store for this bucket; with virtual hosts the bucket is part of it. None for Amazon's own.
    pub fn endpoint_of(&self, bucket: &str) -> Option<String> {
        let mut endpoint = self.endpoint.clone()?;
        if self.style == S3Style::VirtualHost {
            let host = format!("{bucket}.{}", endpoint.host_str()?);
            endpoint.set_host(Some(&host)).ok()?;
        }
        Some(endpoint.as_str().trim_end_matches('/').to_owned())
    }

    /// Whether a tenant with this profile may read the object. Prefixes end at a slash, written or not: `public` lets
    /// through `public/a` and not `publicity/a`.
    pub fn allows(&self, bucket: &str, key: &str) -> bool {
        let below = |prefix: &String| {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let within = self.prefixes.is_empty() || self.prefixes.iter().any(below);
        is_key(key) && self.buckets.iter().any(|b| b == bucket) && within
    }
}

/// Whether it can be a bucket (Amazon's rules, which others follow).
fn is_bucket(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    (3..=63).contains(&name.len()) && plain && !name.starts_with(['.', '-']) && !name.contains("..")
}

/// Whether it is a key that names one object however it is written into a URL. S3 itself takes `..`, empty parts and
/// control characters too; clients and proxies on the way change them, so that another object would be read.
fn is_key(key: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    key.len() <= KEY_MAX_BYTES && key.split('/').all(part) && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hush-hush-7";

    fn profile(change: &[(&str, serde_json::Value)]) -> String {
        let mut profile = serde_json::json!({
            "endpoint": "https://store.example:9000", "region": "eu-central-1", "access_key_id": "AK",
            "secret_access_key": SECRET, "buckets": ["media", "more.media"], "prefixes": ["public/", "open"],
            "path_style": true,
        });
        for (key, value) in change {
            profile[key] = value.clone();
        }
        serde_json::json!({ "archive": profile }).to_string()
    }

    #[test]
    fn a_profile_is_read() {
        let profiles = parse(&profile(&[])).unwrap();
        let archive = &profiles[0];
        assert_eq!((archive.name.as_str(), archive.style), ("archive", S3Style::Path));
        assert_eq!(archive.secret_access_key.expose_secret(), SECRET);
        assert!(!format!("{profiles:?}").contains(SECRET));
        assert!(S3Args { s3_profiles_file: None }.profiles().unwrap().is_empty());
        assert!(parse("{}").unwrap().is_empty());
    }

    #[test]
    fn a_secret_may_lie_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (profiles, secret) = (dir.path().join("profiles"), dir.path().join("secret"));
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let text = profile(&[
            ("secret_access_key", serde_json::Value::Null),
            ("secret_access_key_file", serde_json::json!(secret)),
        ]);
        std::fs::write(&profiles, text).unwrap();
        let read = S3Args { s3_profiles_file: Some(profiles) }.profiles().unwrap();
        assert_eq!(read[0].secret_access_key.expose_secret(), SECRET);
        let both = profile(&[("secret_access_key_file", serde_json::json!(secret))]);
        assert!(parse(&both).is_err());
        let missing = S3Args { s3_profiles_file: Some(dir.path().join("none")) };
        assert!(missing.profiles().unwrap_err().to_string().starts_with("S3_PROFILES_FILE: "));
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_nothing_secret_is_said() {
        use serde_json::json;
        for change in [
            ("endpoint", json!("http://store.example")),
            ("endpoint", json!("ftp://store.example")),
            ("endpoint", json!("https://store.example/path")),
            ("endpoint", json!("https://user:hush-hush-7@store.example")),
            ("endpoint", json!("store.example")),
            ("region", json!("")),
            ("region", json!("a/b")),
            ("access_key_id", json!("")),
            ("access_key_id", json!("A\nK")),
            ("secret_access_key", json!(null)),
            ("secret_access_key", json!("")),
            ("secret_access_key", json!([SECRET])),
            ("path_style", json!(SECRET)),
            ("buckets", json!([])),
            ("buckets", json!(["a/b"])),
            ("buckets", json!(["Media"])),
            ("buckets", json!(vec!["media"; ENTRIES_MAX + 1])),
            ("prefixes", json!([""])),
            ("prefixes", json!(["/"])),
            ("prefixes", json!(["/public"])),
            ("prefixes", json!(["a/../b"])),
            ("secret", json!("x")),
        ] {
            let message = parse(&profile(std::slice::from_ref(&change))).unwrap_err().to_string();
            assert!(message.starts_with("S3_PROFILES_FILE: ") && message.contains("Fix: "), "{change:?}: {message}");
            assert!(!message.contains(SECRET), "{change:?}: {message}");
        }
        for name in ["", "a b", "a/b", &"a".repeat(33)] {
            let text = profile(&[]).replace("archive", name);
            assert!(parse(&text).is_err(), "{name}");
        }
        assert!(parse(&profile(&[("endpoint", json!("http://x")), ("allow_http", json!(true))])).is_ok());
        assert!(parse("[]").is_err() && parse("").is_err());
    }

    #[test]
    fn only_keys_below_a_prefix_in_a_named_bucket_are_allowed() {
        let archive = &parse(&profile(&[])).unwrap()[0];
        for key in ["public/a.mp4", "public/a/b c.mp4", "open/ü", "public/...", "public/a..b"] {
            assert!(archive.allows("media", key) && archive.allows("more.media", key), "{key}");
        }
        for key in [
            "",
            "/",
            "public",
            "public/",
            "publicity/a",
            "open",
            "opened/a",
            "/public/a",
            "//public/a",
            "public//a",
            "public/a/",
            "public/../private/a",
            "public/..",
            "public/./a",
            "./public/a",
            "private/public/a",
            "PUBLIC/a",
            "public/a\0",
            "public/a\nb",
            "private/a",
        ] {
            assert!(!archive.allows("media", key), "{key:?}");
        }
        assert!(!archive.allows("media", &format!("public/{}", "a".repeat(1024))));
        for bucket in ["", "Media", "media/", "media2", "med", "media/public", ".."] {
            assert!(!archive.allows(bucket, "public/a"), "{bucket}");
        }
        let all = &parse(&profile(&[("prefixes", serde_json::json!([]))])).unwrap()[0];
        assert!(all.allows("media", "anything/a") && !all.allows("media", "../a") && !all.allows("media", ""));
    }
}
