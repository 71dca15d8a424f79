//! Where the bytes are, and the rules for a path or a name before anybody touches a disk or a network.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Code, Error};
use crate::id::UploadId;

/// Longest path taken, in bytes (Linux `PATH_MAX` without its NUL).
const MAX_PATH_BYTES: usize = 4095;

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A finished upload of the same tenant.
    Upload {
        /// The upload's id.
        id: UploadId,
    },
    /// A file in a media root that the tenant was granted.
    Path {
        /// Absolute inside a root, or looked up in each granted root in order (a leading slash is ignored).
        #[schema(max_length = 4095, example = "/test/sample.mp4")]
        path: String,
    },
    /// An object behind an HTTPS URL (HTTP where the operator allows it). Shown without its secrets: user and password are
    /// left out, and a query is shown as `?…`.
    Url {
        /// The URL.
        #[schema(example = "https://media.example.com/holiday.mp4?…")]
        url: String,
    },
    /// An object in an S3-compatible store that the operator set up.
    S3 {
        /// Name of the operator's profile: endpoint, region and credentials. The tenant must have been granted it.
        profile: String,
        /// The bucket.
        bucket: String,
        /// The key of the object.
        key: String,
    },
}

impl Source {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Upload { .. } => "upload",
            Self::Path { .. } => "path",
            Self::Url { .. } => "url",
            Self::S3 { .. } => "s3",
        }
    }

    /// The name of the file it points at, as far as the words tell; an upload's name stands in its row.
    pub fn file_name(&self) -> Option<&str> {
        let last = |path: &'_ str| path.rsplit('/').next().map(str::len).unwrap_or_default();
        let path = match self {
            Self::Upload { .. } => return None,
            Self::Path { path } => path.as_str(),
            Self::S3 { key, .. } => key.as_str(),
            Self::Url { url } => {
                let after_scheme = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let path = after_scheme.split(['?', '#']).next().unwrap_or_default();
                path.split_once('/').map_or("", |(_, path)| path)
            }
        };
        Some(&path[path.len() - last(path)..])
    }
}

/// The whole of a URL source, secrets included: what is sealed at rest and only a worker opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlTarget {
    /// The URL as the client wrote it.
    pub url: String,
    /// Request headers to send to its origin.
    pub headers: Vec<(String, String)>,
}

/// Whether a file of this name may be probed, by its extension: without a list everything may; a name without an extension
/// may where the list holds the empty word. The list is in lower case and has no dots.
pub fn extension_allowed(name: &str, allowed: &[String]) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_lowercase();
    allowed.is_empty() || allowed.contains(&extension)
}

/// A named directory that jobs may read from, as configured by `MEDIA_ROOTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRoot {
    /// Its name, used in grants and to match workers with jobs.
    pub name: String,
    /// The absolute directory, without a trailing slash.
    pub dir: String,
}

/// The configured roots a tenant may use, in configured order. The grant `*` stands for all of them.
pub fn granted(configured: &[MediaRoot], grants: &[String]) -> Vec<MediaRoot> {
    let allowed = |root: &MediaRoot| grants.iter().any(|g| g == "*" || *g == root.name);
    configured.iter().filter(|r| allowed(r)).cloned().collect()
}

/// Where to look for a path: the roots' names in order, and the path inside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Candidate roots, in order.
    pub roots: Vec<String>,
    /// The path inside each candidate, without a leading slash.
    pub inside: String,
}

/// Checks the words of `path` and decides in which of the `granted` roots to look for it. Touches no disk: whether the
/// file exists is the worker's to find out.
pub fn locate(path: &str, granted: &[MediaRoot]) -> Result<Located, Error> {
    check_words(path)?;
    if granted.is_empty() {
        return Err(Error::new(
            Code::NoMediaRoot,
            format!("'{path}' is in no media root: this tenant was granted none. An operator adds one with MEDIA_ROOTS and grants it to the tenant."),
        )
        .at("/source/path"));
    }
    // the longest directory wins, so that a root inside another root is found
    let beneath = granted.iter().filter_map(|r| Some((r, strip_dir(path, &r.dir)?))).max_by_key(|(r, _)| r.dir.len());
    let located = match beneath {
        Some((root, inside)) => Located { roots: vec![root.name.clone()], inside: inside.to_owned() },
        None => Located {
            roots: granted.iter().map(|r| r.name.clone()).collect(),
            inside: path.trim_start_matches('/').to_owned(),
        },
    };
    if located.inside.is_empty() {
        return Err(not_allowed(format!("'{path}' names a media root itself. Name a file inside it.")));
    }
    Ok(located)
}

/// The part of `path` below `dir`, if it is below it.
fn strip_dir<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(dir.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

fn check_words(path: &str) -> Result<(), Error> {
    if path.is_empty() {
        return Err(not_allowed(
            "The path is empty. Name a file inside a media root, such as /test/sample.mp4.".into(),
        ));
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(not_allowed(format!("The path has {} bytes; at most {MAX_PATH_BYTES} are taken.", path.len())));
    }
    if path.contains('\0') {
        return Err(not_allowed("The path contains a NUL character. Remove it.".into()));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(not_allowed(format!(
            "'{path}' contains '..'. Name the file by its direct path inside a media root."
        )));
    }
    Ok(())
}

fn not_allowed(detail: String) -> Error {
    Error::new(Code::PathNotAllowed, detail).at("/source/path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Vec<MediaRoot> {
        [("media", "/srv/media"), ("inner", "/srv/media/inner"), ("nas", "/mnt/nas")]
            .map(|(name, dir)| MediaRoot { name: name.into(), dir: dir.into() })
            .into()
    }

    fn located(roots: &[&str], inside: &str) -> Located {
        Located { roots: roots.iter().map(|r| (*r).to_owned()).collect(), inside: inside.into() }
    }

    #[test]
    fn a_source_names_its_file() {
        let url = |url: &str| Source::Url { url: url.into() }.file_name().map(str::to_owned);
        assert_eq!(url("https://h/a/b.mp4?…").as_deref(), Some("b.mp4"));
        assert_eq!(url("https://h/a/b.mp4#x/y.exe").as_deref(), Some("b.mp4"));
        assert_eq!(url("https://h?a/b.mp4").as_deref(), Some(""));
        assert_eq!(url("https://h").as_deref(), Some(""));
        let s3 = Source::S3 { profile: "p".into(), bucket: "b".into(), key: "x/y.mov".into() };
        assert_eq!(s3.file_name(), Some("y.mov"));
        assert_eq!(Source::Path { path: "/x/z".into() }.file_name(), Some("z"));
    }

    #[test]
    fn extensions_are_compared_in_lower_case() {
        let allowed = ["mp4".to_owned(), String::new()];
        for (name, fits) in
            [("a.MP4", true), ("a.b.mp4", true), ("a", true), ("a.mov", false), ("mp4", true), ("a.mp4 ", false)]
        {
            assert_eq!(extension_allowed(name, &allowed), fits, "{name}");
        }
        assert!(extension_allowed("a.mov", &[]) && !extension_allowed("a", &allowed[..1]));
    }

    #[test]
    fn a_path_beneath_a_root_is_taken_as_it_is() {
        assert_eq!(locate("/mnt/nas/a/b.mp4", &roots()).unwrap(), located(&["nas"], "a/b.mp4"));
        assert_eq!(locate("/srv/media/inner/b.mp4", &roots()).unwrap(), located(&["inner"], "b.mp4"));
    }

    #[test]
    fn any_other_path_is_looked_up_in_every_root() {
        let all = ["media", "inner", "nas"];
        assert_eq!(locate("/test/sample.mp4", &roots()).unwrap(), located(&all, "test/sample.mp4"));
        assert_eq!(locate("sample.mp4", &roots()).unwrap(), located(&all, "sample.mp4"));
        assert_eq!(locate("/srv/mediax/a.mp4", &roots()).unwrap(), located(&all, "srv/mediax/a.mp4"));
    }

    #[test]
    fn odd_names_are_only_names() {
        for name in ["-version", "a%03d.png", "x:y.mp4", "a..b.mp4", "...", "http://host/a.mp4"] {
            assert_eq!(locate(name, &roots()).unwrap().inside, name);
        }
    }

    #[test]
    fn bad_words_are_refused() {
        for (path, code) in [
            ("", Code::PathNotAllowed),
            ("/", Code::PathNotAllowed),
            ("/mnt/nas", Code::PathNotAllowed),
            ("/mnt/nas/", Code::PathNotAllowed),
            ("../etc/passwd", Code::PathNotAllowed),
            ("/mnt/nas/../../etc/passwd", Code::PathNotAllowed),
            ("a/..", Code::PathNotAllowed),
            ("a\0b", Code::PathNotAllowed),
        ] {
            assert_eq!(locate(path, &roots()).map_err(|e| e.code()), Err(code), "{path:?}");
        }
        assert_eq!(locate(&"a".repeat(4096), &roots()).unwrap_err().code(), Code::PathNotAllowed);
        assert_eq!(locate("a.mp4", &[]).unwrap_err().code(), Code::NoMediaRoot);
    }
}
