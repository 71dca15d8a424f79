//! A real S3 API on a free port of 127.0.0.1: moto, which `scripts/setup.sh test` installs under `target/s3-api`. Each server
//! is a process with an empty memory of its own. It checks no signatures, so objects are put without one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What is put with keys is read with keys; which, nobody looks at.
const SOMEBODY: &str =
    "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/eu-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// The server; killed when dropped.
pub struct S3Api {
    endpoint: String,
    server: Child,
    client: reqwest::Client,
}

impl S3Api {
    /// Starts one without buckets.
    pub fn start() -> Self {
        Self::run(&["-m", "moto.server"])
    }

    /// Starts one without buckets that says of every object that it was put two hours ago.
    pub fn with_old_objects() -> Self {
        let program = "import datetime, moto.s3.models as s3, moto.server\n\
            now = s3.utcnow\n\
            s3.utcnow = lambda: now() - datetime.timedelta(hours=2)\n\
            moto.server.main()";
        Self::run(&["-c", program])
    }

    fn run(program: &[&str]) -> Self {
        let own = std::env::current_exe().expect("a test has a path");
        let python = own.ancestors().nth(3).expect("target/PROFILE/deps/it").join("s3-api/bin/python");
        let mut server = Command::new(&python)
            .arg("-u")
            .args(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; this test needs: scripts/setup.sh test", python.display()));
        let mut lines = BufReader::new(server.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let endpoint =
            lines.find_map(|line| Some(format!("http://{}", line.split_once("Running on http://")?.1.trim())));
        // it says a line for every request
        std::thread::spawn(move || lines.for_each(drop));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { endpoint: endpoint.expect("moto says where it listens"), server, client }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes a bucket.
    pub async fn make(&self, bucket: &str) {
        self.send(bucket, Vec::new()).await;
    }

    /// Puts an object; the key as it stands in a URL.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) {
        self.send(&format!("{bucket}/{key}"), bytes).await;
    }

    /// Begins a multipart upload and says no more of it.
    pub async fn begin(&self, bucket: &str, key: &str) {
        let request = self.client.post(format!("{}/{bucket}/{key}?uploads", self.endpoint));
        let begun = request.header("authorization", SOMEBODY).send().await;
        begun.and_then(reqwest::Response::error_for_status).expect("it is begun");
    }

    /// Erases an object.
    pub async fn erase(&self, bucket: &str, key: &str) {
        let request = self.client.delete(format!("{}/{bucket}/{key}", self.endpoint));
        let erased = request.header("authorization", SOMEBODY).send().await;
        erased.and_then(reqwest::Response::error_for_status).expect("it is erased");
    }

    /// The bytes of an object; the key as it stands in a URL.
    pub async fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let request = self.client.get(format!("{}/{bucket}/{key}", self.endpoint)).header("authorization", SOMEBODY);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).expect("an object");
        answer.bytes().await.expect("bytes").to_vec()
    }

    /// The keys of a bucket's objects, as they stand in the answer, and how many multipart uploads were begun and not ended.
    pub async fn list(&self, bucket: &str) -> (Vec<String>, usize) {
        let ask = async |query: &str| {
            let answer = self.client.get(format!("{}/{bucket}?{query}", self.endpoint)).send().await;
            answer.and_then(reqwest::Response::error_for_status).expect("a list").text().await.expect("text")
        };
        let objects = ask("list-type=2").await;
        let keys = objects.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        (keys.collect(), ask("uploads").await.matches("<UploadId>").count())
    }

    async fn send(&self, path: &str, bytes: Vec<u8>) {
        let request = self.client.put(format!("{}/{path}", self.endpoint)).body(bytes);
        request.send().await.and_then(reqwest::Response::error_for_status).expect("the S3 API takes it");
    }
}

impl Drop for S3Api {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
