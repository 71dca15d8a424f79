//! Where a client says that the bytes are, and the checks it must pass before a job is stored. Touches no disk and no
//! network: whether the object is there is the worker's to find out. Secrets of a URL are sealed here and never leave again.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::access::Principal;
use shared::id::UploadId;
use shared::job::source::{self, UrlTarget, extension_allowed};
use shared::job::{Located, Source, address};
use shared::{Code, Error, egress};
use utoipa::ToSchema;

use crate::App;

/// Where the bytes are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceRequest {
    /// A finished upload of yours.
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
    /// An object behind a URL. The server must answer range requests; redirects are followed.
    Url {
        /// An https URL (http where the operator allows it). User, password and query are kept encrypted and never shown.
        #[schema(max_length = 8192, example = "https://media.example.com/holiday.mp4?signature=abc")]
        url: String,
        /// Request headers for its origin, such as `Authorization`. Kept encrypted, never shown again.
        #[serde(default)]
        headers: OriginHeaders,
    },
    /// An object in an S3-compatible store that the operator set up.
    S3 {
        /// Name of the operator's profile; the tenant must have been granted it.
        #[schema(example = "archive")]
        profile: String,
        /// The bucket.
        #[schema(max_length = 255, example = "media")]
        bucket: String,
        /// The key of the object.
        #[schema(max_length = 1024, example = "2026/holiday.mp4")]
        key: String,
    },
}

/// Request headers by name.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!({"Authorization": "Bearer abc"}))]
pub struct OriginHeaders(BTreeMap<String, String>);

/// A source that passed.
pub struct Checked {
    /// As it is stored and shown.
    pub source: Source,
    /// For a path: where to look.
    pub located: Option<Located>,
    /// For a URL: the whole of it, sealed.
    pub sealed: Option<Vec<u8>>,
}

impl SourceRequest {
    /// The source ready to be stored, if it is one that the tenant may name. The name of an upload was checked when its bytes
    /// came.
    pub fn check(self, who: &Principal, app: &App) -> Result<Checked, Error> {
        let checked = match self {
            Self::Upload { id } => Checked { source: Source::Upload { id }, located: None, sealed: None },
            Self::Path { path } => {
                let located = source::locate(&path, &source::granted(&app.roots, &who.media_roots))?;
                Checked { source: Source::Path { path }, located: Some(located), sealed: None }
            }
            Self::Url { url, headers } => url_source(url, headers, who, app)?,
            Self::S3 { profile, bucket, key } => s3_source(profile, bucket, key, who, app)?,
        };
        check_extension(&checked.source, &app.limits.extensions)?;
        Ok(checked)
    }
}

fn url_source(url: String, headers: OriginHeaders, who: &Principal, app: &App) -> Result<Checked, Error> {
    let OriginHeaders(headers) = headers;
    let refused = |e: egress::Refused, at: &str| Error::new(Code::UrlNotAllowed, e.to_string()).at(at);
    let parsed = egress::parse(&url).map_err(|e| refused(e, "/source/url"))?;
    app.egress.check(&parsed).map_err(|e| refused(e, "/source/url"))?;
    egress::headers::check(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|e| Error::new(Code::InvalidValue, e.to_string()).at("/source/headers"))?;
    let target = UrlTarget { url, headers: headers.into_iter().collect() };
    let plain = serde_json::to_vec(&target).map_err(Error::internal)?;
    let sealed =
        app.keys.seal(rand::random(), who.tenant, &plain).ok_or_else(|| Error::internal("nothing was sealed"))?;
    Ok(Checked { source: Source::Url { url: address::redact(&parsed) }, located: None, sealed: Some(sealed) })
}

fn s3_source(profile: String, bucket: String, key: String, who: &Principal, app: &App) -> Result<Checked, Error> {
    let granted = who.s3_profiles.iter().any(|grant| grant == "*" || *grant == profile);
    // one that is not configured and one that was not granted look the same from outside
    let Some(known) = app.s3.iter().find(|known| granted && known.name == profile) else {
        let detail =
            format!("No S3 profile '{profile}' was granted to this tenant. Check its name, or ask the operator.");
        return Err(Error::new(Code::NoS3Profile, detail).at("/source/profile"));
    };
    // uploads are private, whoever has keys for the bucket they lie in
    if !known.allows(&bucket, &key) || app.storage.holds(&bucket, &key) {
        let detail = format!(
            "The S3 profile '{profile}' does not open this object. Name one in its buckets and below its prefixes."
        );
        return Err(Error::new(Code::ObjectNotAllowed, detail).at("/source/key"));
    }
    Ok(Checked { source: Source::S3 { profile, bucket, key }, located: None, sealed: None })
}

/// Whether the name a source ends in has an extension that the operator allows.
fn check_extension(source: &Source, allowed: &[String]) -> Result<(), Error> {
    let Some(name) = source.file_name().filter(|name| !extension_allowed(name, allowed)) else { return Ok(()) };
    Err(not_allowed(name, allowed).at("/source"))
}

/// Why a file of this name is not taken.
pub fn not_allowed(name: &str, allowed: &[String]) -> Error {
    let known: Vec<String> =
        allowed.iter().map(|e| if e.is_empty() { "none".to_owned() } else { format!(".{e}") }).collect();
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let detail = format!("'{shown}' has an extension that is not taken here. These are: {}.", known.join(", "));
    Error::new(Code::ExtensionNotAllowed, detail)
}
