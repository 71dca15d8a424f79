//! Forms (`multipart/form-data`, RFC 7578) as browsers and `curl -F` send them: one part called `file` that may be huge, and
//! small fields before and after it. Read as a stream; memory does not grow with the file. Refuses what is malformed.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use shared::{Code, Error};
use tokio::sync::oneshot;

/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// Longest headers of a part, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Longest value of a small field, in bytes.
const MAX_FIELD: usize = 64 * 1024;
/// Most small fields.
const MAX_FIELDS: usize = 16;

/// The boundary between the parts, if the body is a form.
pub fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (essence, rest) = kind.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameter(rest, "boundary")?;
    (1..=MAX_BOUNDARY).contains(&value.len()).then_some(value)
}

/// The value of `name` in `; a=b; c="d"`, quotes and their escapes taken off.
fn parameter(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (key, after) = rest.split_once('=')?;
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = left;
    }
}

fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            // browsers leave backslashes of names as they are; only an escaped quote or backslash is one
            '\\' if text[at + 1..].starts_with(['"', '\\']) => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    None
}

/// The head of a part.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    name: String,
    /// The client's name for the file.
    pub filename: Option<String>,
    /// The client's word for what it is.
    pub content_type: Option<String>,
}

/// A form that is being read.
pub struct Form {
    body: Body,
    /// Read and not used yet; at most a frame and what a boundary needs.
    buffer: Vec<u8>,
    delimiter: Vec<u8>,
    fields: Vec<(String, String)>,
    ended: bool,
}

impl Form {
    /// The form in `body`.
    pub fn new(body: Body, boundary: &str) -> Self {
        // the first delimiter may stand at the very start, without a line end before it
        Self {
            body,
            buffer: b"\r\n".to_vec(),
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            fields: Vec::new(),
            ended: false,
        }
    }

    /// Reads up to the bytes of the part `file`; small fields before it are kept.
    pub async fn find_file(&mut self) -> Result<Option<Part>, Error> {
        // what stands before the first delimiter means nothing
        while self.chunk().await?.is_some() {}
        while let Some(part) = self.head().await? {
            if part.name == "file" {
                return Ok(Some(part));
            }
            self.field(part.name).await?;
        }
        Ok(None)
    }

    /// The bytes of the file as a body, and the form again once they were read.
    pub fn into_file(self) -> (Body, oneshot::Receiver<Self>) {
        let (back, form) = oneshot::channel();
        let chunks = futures::stream::unfold(Some((self, back)), |state| async {
            let (mut form, back) = state?;
            match form.chunk().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some((form, back)))),
                Ok(None) => {
                    // nobody waits if the file was refused
                    let _ = back.send(form);
                    None
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        (Body::from_stream(chunks), form)
    }

    /// Reads the fields after the file and returns all.
    pub async fn finish(mut self) -> Result<Vec<(String, String)>, Error> {
        while let Some(part) = self.head().await? {
            if part.name == "file" {
                return Err(broken("it has two parts 'file'"));
            }
            self.field(part.name).await?;
        }
        Ok(self.fields)
    }

    async fn field(&mut self, name: String) -> Result<(), Error> {
        let mut value = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            value.extend_from_slice(&bytes);
            if value.len() > MAX_FIELD || self.fields.len() == MAX_FIELDS {
                return Err(broken("its fields are too many or too long; the file's part is called 'file'"));
            }
        }
        let value = String::from_utf8(value).map_err(|_| broken("a field is not UTF-8"))?;
        self.fields.push((name, value));
        Ok(())
    }

    /// The head of the next part; `None` at the end of the form. To be called behind a delimiter.
    async fn head(&mut self) -> Result<Option<Part>, Error> {
        if self.ended {
            return Ok(None);
        }
        let end = loop {
            if self.buffer.starts_with(b"--") {
                self.ended = true;
                return Ok(None);
            }
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEAD || !self.more().await? {
                return Err(broken("the head of a part has no end"));
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut part = Part::default();
        for line in text.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                part.name = parameter(value.split_once(';').map_or("", |(_, p)| p), "name").unwrap_or_default();
                part.filename = parameter(value.split_once(';').map_or("", |(_, p)| p), "filename");
            } else if name.trim().eq_ignore_ascii_case("content-type") {
                part.content_type = Some(value.trim().to_owned());
            }
        }
        Ok(Some(part))
    }

    /// The next bytes of the part; `None` at its end, with the delimiter read.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(at) = find(&self.buffer, &self.delimiter) {
                if at > 0 {
                    return Ok(Some(self.buffer.drain(..at).collect::<Vec<u8>>().into()));
                }
                self.buffer.drain(..self.delimiter.len());
                return Ok(None);
            }
            // the last bytes may be the beginning of a delimiter
            let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if sure > 0 {
                return Ok(Some(self.buffer.drain(..sure).collect::<Vec<u8>>().into()));
            }
            if !self.more().await? {
                return Err(broken("a part has no end"));
            }
        }
    }

    async fn more(&mut self) -> Result<bool, Error> {
        match self.body.frame().await {
            None => Ok(false),
            Some(Ok(frame)) => {
                self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                Ok(true)
            }
            Some(Err(error)) => {
                let detail = format!("The body broke off: {error}. Send the form again.");
                Err(Error::new(Code::IncompleteBody, detail))
            }
        }
    }
}

fn broken(why: &str) -> Error {
    Error::new(Code::BadRequest, format!("The form cannot be read: {why}."))
}

/// Where `needle` begins.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == first).map(|at| from + at) {
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str, piece: usize) -> Body {
        let pieces: Vec<_> =
            text.as_bytes().chunks(piece).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
        Body::from_stream(futures::stream::iter(pieces))
    }

    async fn read(text: &str, piece: usize) -> Result<(Part, Vec<u8>, Vec<(String, String)>), Error> {
        let mut form = Form::new(body(text, piece), "XX");
        let part = form.find_file().await?.ok_or_else(|| broken("no file"))?;
        let (file, rest) = form.into_file();
        let bytes = file.collect().await.map_err(Error::internal)?.to_bytes().to_vec();
        Ok((part, bytes, rest.await.map_err(Error::internal)?.finish().await?))
    }

    #[tokio::test]
    async fn a_file_and_fields_around_it_are_read_however_they_are_cut() {
        let text = "--XX\r\nContent-Disposition: form-data; name=\"profile\"\r\n\r\nquick\r\n--XX\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".mp4\"\r\nContent-Type: video/mp4\r\n\r\n\
            bytes\r\n--X\r\n\r\nmore\r\n--XX\r\nContent-Disposition: form-data; name=after\r\n\r\n\r\n--XX--\r\n";
        for piece in [1, 2, 3, 7, 50, 10_000] {
            let (part, bytes, fields) = read(text, piece).await.unwrap();
            assert_eq!(
                (part.filename.as_deref(), part.content_type.as_deref()),
                (Some("a \"b\".mp4"), Some("video/mp4"))
            );
            assert_eq!(bytes, b"bytes\r\n--X\r\n\r\nmore");
            assert_eq!(fields, [("profile".into(), "quick".into()), ("after".into(), String::new())]);
        }
    }

    #[tokio::test]
    async fn what_is_malformed_is_refused() {
        let long = "x".repeat(MAX_FIELD + 1);
        for text in [
            "",
            "--XX--",
            "--XX\r\n",
            "--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nno end",
            &format!("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{long}\r\n--XX--"),
        ] {
            assert!(read(text, 4096).await.is_err(), "{text:.60}");
        }
    }

    #[test]
    fn boundaries_are_found_and_bounded() {
        let of = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            boundary(&headers)
        };
        assert_eq!(of("multipart/form-data; charset=x; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(of("Multipart/Form-Data;boundary=ab").as_deref(), Some("ab"));
        for none in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a", "text/plain"]
        {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
    }
}
