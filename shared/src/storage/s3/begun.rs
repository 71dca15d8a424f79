//! Multipart uploads that nothing names: begun in the very moment a process was killed, or twice because an answer was lost.
//! A store keeps their parts, and has them paid for, until somebody gives them up. Called by the bucket when an upload is
//! complete or erased; the store is asked for those of this upload alone, and a failure costs no upload anything.

use std::time::Duration;

use futures::StreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error as StoreError, MultipartId};
use reqwest::Method;

use super::Bucket;
use crate::id::UploadId;

/// How long the store may be asked with one signature.
const SIGNED: Duration = Duration::from_secs(60);
/// Longest wait for an answer.
const LOOK: Duration = Duration::from_secs(10);
/// Largest answer that is read; one with the most that a store tells at once, 1,000, has half of this.
const ANSWER_BYTES: usize = 1 << 20;
/// Most multipart uploads of one upload that are given up at once.
const MOST: usize = 100;

impl Bucket {
    /// Gives up whatever multipart uploads an upload has. The one it needs must be complete by now.
    pub(super) async fn give_up_begun(&self, id: UploadId) {
        match self.try_to_give_up(id).await {
            Ok(0) => {}
            Ok(given_up) => {
                tracing::info!(upload.id = %id, given_up, "multipart uploads that nothing named were ended");
            }
            // some stores do not list them, and some keys may not: the bucket's own rule ends them then
            Err(problem) => tracing::debug!(problem, upload.id = %id, "multipart uploads are not looked for"),
        }
    }

    async fn try_to_give_up(&self, id: UploadId) -> Result<usize, String> {
        let data = self.data(id).map_err(said)?;
        let mut given_up = 0;
        for multipart in self.begun(&data).await? {
            match self.store().abort_multipart(&data, &multipart).await {
                Ok(()) => given_up += 1,
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(said(error)),
            }
        }
        Ok(given_up)
    }

    /// The multipart uploads of the object at `data`, as the store tells them.
    async fn begun(&self, data: &Path) -> Result<Vec<MultipartId>, String> {
        // the library signs any request, and makes all but this one
        let wanted = [("uploads", ""), ("prefix", data.as_ref())];
        let options = SignedUrlOptions::default().with_query(wanted);
        let url = self.store().signed_url_opts(Method::GET, &Path::default(), SIGNED, &options).await.map_err(said)?;
        // an address with a signature is a secret
        let plain = |e: reqwest::Error| e.without_url().to_string();
        let answer = self.client().get(url).timeout(LOOK).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(plain)?;
        let (mut text, mut chunks) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = chunks.next().await {
            text.extend_from_slice(&chunk.map_err(plain)?);
            if text.len() > ANSWER_BYTES {
                return Err("the store's answer is too long".to_owned());
            }
        }
        Ok(ids(&String::from_utf8_lossy(&text), data.as_ref()))
    }
}

fn said(error: StoreError) -> String {
    error.to_string()
}

/// The ids of those for `key` in a store's list of multipart uploads: a store may know no prefixes and tell all. What XML
/// writes in another way, in a key or an id, is passed over.
fn ids(list: &str, key: &str) -> Vec<MultipartId> {
    let uploads = list.split("<Upload>").skip(1).filter(|upload| text_of(upload, "Key") == Some(key));
    let found = uploads.filter_map(|upload| text_of(upload, "UploadId"));
    found.filter(|id| !id.is_empty() && !id.contains(['&', '<'])).map(str::to_owned).take(MOST).collect()
}

fn text_of<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    Some(rest.split_once(&format!("</{element}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_a_list_and_from_nothing_else() {
        let list = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><Bucket>b</Bucket><UploadIdMarker/>\
            <Upload><Key>a/b</Key><UploadId>one.1-x_</UploadId><Owner><ID>1</ID></Owner></Upload>\
            <Upload><UploadId>two==</UploadId><Key>a/b</Key></Upload><Upload><Key>a/b</Key><UploadId>t&amp;</UploadId></Upload>\
            <Upload><Key>a/bc</Key><UploadId>another's</UploadId></Upload><Upload><UploadId>nobody's</UploadId></Upload>\
            <Upload><Key>a/b</Key><UploadId></UploadId></Upload><Upload><Key>a/b</Key><UploadId>cut o";
        assert_eq!(ids(list, "a/b"), ["one.1-x_", "two=="]);
        assert!(ids("", "a").is_empty() && ids("<Key>a</Key><UploadId>not in a list</UploadId>", "a").is_empty());
        let many = "<Upload><Key>a</Key><UploadId>x</UploadId></Upload>".repeat(2 * MOST);
        assert_eq!(ids(&many, "a").len(), MOST);
    }
}
