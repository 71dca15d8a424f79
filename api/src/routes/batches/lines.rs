//! A body of lines, one JSON value each (NDJSON), read as it comes: no more of it is in memory than the line that is being put
//! together. Its SHA-256 is taken on the way.

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use shared::{Code, Error};

/// The lines of a body.
pub struct Lines {
    body: BodyDataStream,
    /// What came and was not given out.
    held: Vec<u8>,
    /// Where in it the next line begins.
    start: usize,
    /// Up to where it was searched for the end of the line.
    searched: usize,
    came: usize,
    /// Lines that were passed, empty ones with them.
    passed: usize,
    most_bytes: usize,
    line_bytes: usize,
    digest: Sha256,
    ended: bool,
}

impl Lines {
    /// The lines of a body of at most `most_bytes`, each of at most `line_bytes`.
    pub fn new(body: Body, most_bytes: usize, line_bytes: usize) -> Self {
        Self {
            body: body.into_data_stream(),
            held: Vec::new(),
            start: 0,
            searched: 0,
            came: 0,
            passed: 0,
            most_bytes,
            line_bytes,
            digest: Sha256::new(),
            ended: false,
        }
    }

    /// The next line that is not empty, without its end; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        loop {
            let line = match self.held[self.searched..].iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    let line = self.start..self.searched + at;
                    (self.start, self.searched) = (line.end + 1, line.end + 1);
                    line
                }
                None if self.ended && self.start == self.held.len() => return Ok(None),
                None if self.ended => {
                    let line = self.start..self.held.len();
                    (self.start, self.searched) = (line.end, line.end);
                    line
                }
                None => {
                    self.searched = self.held.len();
                    if self.searched - self.start > self.line_bytes {
                        return Err(self.too_long());
                    }
                    self.fill().await?;
                    continue;
                }
            };
            if line.len() > self.line_bytes {
                return Err(self.too_long());
            }
            self.passed += 1;
            if !self.held[line.clone()].trim_ascii().is_empty() {
                return Ok(Some(&self.held[line]));
            }
        }
    }

    /// SHA-256 of the body; call it after the last line.
    pub fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }

    fn too_long(&self) -> Error {
        let detail = format!(
            "Line {} has more than {} bytes. Each line is one job as JSON. Nothing was accepted.",
            self.passed + 1,
            self.line_bytes
        );
        Error::new(Code::TooLarge, detail)
    }

    async fn fill(&mut self) -> Result<(), Error> {
        match self.body.next().await {
            None => self.ended = true,
            Some(Err(error)) => {
                let detail = format!("The body could not be read: {error}. Nothing was accepted; send it again.");
                return Err(Error::new(Code::IncompleteBody, detail));
            }
            Some(Ok(bytes)) => {
                self.came += bytes.len();
                if self.came > self.most_bytes {
                    let detail = format!("A batch has at most {} bytes. Make several of them.", self.most_bytes);
                    return Err(Error::new(Code::TooLarge, detail));
                }
                self.digest.update(&bytes);
                self.held.drain(..self.start);
                self.searched -= self.start;
                self.start = 0;
                self.held.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)))))
    }

    async fn read(body: Body, most: usize, line: usize) -> Result<(Vec<Vec<u8>>, [u8; 32]), Code> {
        let (mut lines, mut all) = (Lines::new(body, most, line), Vec::new());
        while let Some(line) = lines.next().await.map_err(|e| e.code())? {
            all.push(line.to_vec());
        }
        Ok((all, lines.digest()))
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(text in "[ab\n ]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..5)) {
            let mut pieces = vec![text.clone().into_bytes()];
            for cut in cuts {
                let last = pieces.pop().expect("there is one");
                let (a, b) = last.split_at(cut.min(last.len()));
                pieces.extend([a.to_vec(), b.to_vec()]);
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (seen, digest) = runtime.block_on(read(body(pieces), 100, 100)).expect("it is good");
            let expected: Vec<Vec<u8>> =
                text.split('\n').filter(|l| !l.trim().is_empty()).map(|l| l.as_bytes().to_vec()).collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(text.as_bytes())));
        }
    }

    #[tokio::test]
    async fn lines_and_bodies_have_an_end() {
        let long = || body(vec![vec![b'a'; 60], vec![b'a'; 60]]);
        assert_eq!(read(long(), 1_000, 100).await, Err(Code::TooLarge), "a line without end");
        assert_eq!(read(long(), 100, 1_000).await, Err(Code::TooLarge), "a body without end");
        assert_eq!(read(body(vec![b"a\n".to_vec(); 50]), 100, 2).await.map(|r| r.0.len()), Ok(50));
        let broken =
            Body::from_stream(stream::iter([Ok(Bytes::from_static(b"a\nb")), Err(std::io::Error::other("gone"))]));
        assert_eq!(read(broken, 100, 100).await, Err(Code::IncompleteBody));
    }
}
