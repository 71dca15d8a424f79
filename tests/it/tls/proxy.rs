//! nginx in front of a real API, with the configuration of docs/tls.md: read from the page, so that the page cannot go stale.
//! Only what differs from machine to machine is exchanged: ports, and where the certificate lies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use tests::authority::Authority;
use tests::remote_servers::{free_port, owner};
use tests::{Answer, Http, Installation, Program, binaries, samples};

/// The name in the configuration.
const NAME: &str = "probe.example.com";
/// Longest wait for bytes to be counted.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running nginx, and clients of it.
struct Proxy {
    url: String,
    client: reqwest::Client,
    key: String,
    ca: PathBuf,
    _nginx: Program,
}

/// The configuration on the page, for this machine.
fn configuration(port: u16, api: &str, certificate: &tests::authority::Certificate) -> String {
    let page = std::fs::read_to_string(binaries::workspace().join("docs/tls.md")).expect("the page");
    let text = page.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a configuration");
    [
        ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
        ("server 127.0.0.1:8080;", format!("server {api};")),
        ("/etc/nginx/tls/chain.pem", certificate.chain.display().to_string()),
        ("/etc/nginx/tls/key.pem", certificate.key.display().to_string()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (page, here)| {
        assert_eq!(text.matches(page).count(), 1, "the page has '{page}' once");
        text.replace(page, here)
    })
}

impl Proxy {
    fn start(folder: &Path, http: &Http, key: &str) -> Self {
        let authority = Authority::new(&folder.join("ca"));
        let certificate = authority.sign("proxy", &format!("DNS:{NAME},DNS:localhost"), owner());
        let (port, at) = (free_port(), folder.display());
        let text = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log stderr;\nevents {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
             scgi_temp_path {at}/s; uwsgi_temp_path {at}/u;\n{}\n}}\n",
            configuration(port, http.url().trim_start_matches("http://"), &certificate)
        );
        let settings = folder.join("nginx.conf");
        std::fs::write(&settings, text).expect("writes");
        let nginx = Program::start(
            "nginx",
            Path::new("nginx"),
            &["-c", &settings.display().to_string(), "-p", &folder.display().to_string()],
            &[],
        );
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nginx does not listen:\n{}", nginx.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let ca = std::fs::read(authority.certificate()).expect("a certificate");
        // a client with an address of its own, which the proxy has not
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).expect("PEM"))
            .resolve(NAME, SocketAddr::from(([127, 0, 0, 1], port)))
            .local_address(Some([127, 0, 0, 2].into()))
            .build()
            .expect("a client");
        Self {
            url: format!("https://{NAME}:{port}"),
            client,
            key: key.to_owned(),
            ca: authority.certificate(),
            _nginx: nginx,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header("x-api-key", &self.key)
    }
}

async fn behind_nginx() -> (Installation, Program, Http, Proxy) {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let proxy = Proxy::start(installation.folder(), &http, &installation.key);
    (installation, api, http, proxy)
}

#[tokio::test]
async fn clients_get_hsts_and_their_own_address_counts() {
    let (installation, _api, _direct, proxy) = behind_nginx().await;
    let request = proxy.request(Method::GET, "/api/v1/jobs").header("x-forwarded-for", "6.6.6.6");
    let answer = Answer::of(request.header("x-forwarded-proto", "http")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("strict-transport-security"), "max-age=63072000");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let wrong = proxy.client.get(format!("{}/api/v1/jobs", proxy.url)).header("x-api-key", "ffp_wrong");
    assert_eq!(Answer::of(wrong).await.status, 401);
    let sql = "select host(client) from audit_event where outcome = 'denied' limit 1";
    let begun = std::time::Instant::now();
    let seen = loop {
        let row: Option<String> = sqlx::query_scalar(sql).fetch_optional(&installation.db).await.expect("asks");
        if let Some(address) = row {
            break address;
        }
        assert!(begun.elapsed() < PATIENCE, "the refusal is in the audit trail");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(seen, "127.0.0.2", "neither the proxy's nor the one that the client made up");
}

#[tokio::test]
async fn an_upload_streams_through() {
    const HALF: usize = 16 << 20;
    let (installation, _api, _direct, proxy) = behind_nginx().await;
    let tus = |method, path: &str| proxy.request(method, path).header("tus-resumable", "1.0.0");
    let begun = Answer::of(tus(Method::POST, "/api/v1/uploads").header("upload-length", 2 * HALF)).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    let place = begun.header("location").to_owned();
    assert!(place.starts_with(&format!("{}/api/v1/uploads/", proxy.url)), "as clients reach it: {place}");
    let path = place.strip_prefix(&proxy.url).expect("below").to_owned();

    let (pieces, body) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    pieces.unbounded_send(Ok(vec![7; HALF])).expect("is taken");
    let patch = tus(Method::PATCH, &path)
        .header("content-type", "application/offset+octet-stream")
        .header("upload-offset", 0)
        .body(Body::wrap_stream(body));
    let sending = tokio::spawn(Answer::of(patch));
    // the client has more to say, and says nothing: whatever arrives was not kept back by the proxy
    let waited = std::time::Instant::now();
    loop {
        let sql = "select received_bytes from upload";
        let received: i64 = sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("a row");
        if received > 0 {
            break;
        }
        assert!(waited.elapsed() < PATIENCE, "nothing reached the API while the client was still sending");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!sending.is_finished());
    pieces.unbounded_send(Ok(vec![7; HALF])).expect("is taken");
    pieces.close_channel();
    let answer = sending.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (204, (2 * HALF).to_string().as_str()));
}

#[tokio::test]
async fn a_wait_lasts_until_the_job_has_ended() {
    let (installation, _api, _direct, proxy) = behind_nginx().await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let body = json!({"source": {"type": "path", "path": file}});
    let job = Answer::of(proxy.request(Method::POST, "/api/v1/jobs").json(&body)).await;
    assert_eq!(job.status, 202, "{}", job.text);
    let id = job.json["id"].as_str().expect("an id").to_owned();
    let waiting = tokio::spawn(Answer::of(proxy.request(Method::GET, &format!("/api/v1/jobs/{id}?wait=30"))));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "there is nobody to run it");
    let _worker = installation.worker(&[]);
    let answer = waiting.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (200, &Value::from("succeeded")), "{}", answer.text);
}

#[tokio::test]
async fn the_doctor_notices_an_api_that_does_not_believe_its_proxy() {
    for (trusted, outcome, words) in [("127.0.0.1", "ok", "believes"), ("", "fail", "TRUSTED_PROXIES")] {
        let installation = Installation::new().await;
        let (_api, http) = installation.api(&[("TRUSTED_PROXIES", trusted)]);
        let proxy = Proxy::start(installation.folder(), &http, &installation.key);
        let mut environment = installation.environment();
        environment.push(("FFPROBE_API_URL".into(), proxy.url.replace(NAME, "localhost")));
        environment.push(("SSL_CERT_FILE".into(), proxy.ca.display().to_string()));
        let mut doctor = Program::start("probectl", &binaries::path("probectl"), &["doctor", "--json"], &environment);
        doctor.wait();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let report: Value = serde_json::from_str(&doctor.log()).expect("JSON");
        let check = |name: &str| {
            let checks = report["checks"].as_array().expect("checks");
            checks
                .iter()
                .find(|c| c["area"] == "api" && c["name"] == name)
                .cloned()
                .unwrap_or_else(|| panic!("{report:#}"))
        };
        assert_eq!(check("https")["outcome"], "ok", "{report:#}");
        assert_eq!(check("proxy")["outcome"], outcome, "{report:#}");
        assert!(check("proxy").to_string().contains(words), "{report:#}");
    }
}
