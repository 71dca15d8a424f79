//! Who may do what: every operation of openapi.json, asked as every role, with every kind of scopes, about one's own, a
//! foreign and an unknown object, and with credentials that are missing or open nothing. The right of an operation is the
//! one that the document names; the sample requests stand in `table`.

mod table;

use std::collections::{BTreeSet, HashMap};
use std::process::Command;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use shared::access::{Reach, Right, Role};
use shared::id::TenantId;
use table::{Body, Caller, LEAST, Object, ROWS, Row};
use tests::{Answer, Http, Installation, Program, binaries};
use uuid::Uuid;

/// Operations whose answers are those of others, and not in the document once more.
const ANSWERS_ELSEWHERE: [&str; 1] = ["override_upload"];
/// Most findings that are told.
const TOLD: usize = 20;

/// What an operation asks of whoever calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lock {
    /// Nothing; credentials are not looked at.
    Open,
    /// Nothing, but credentials that are sent must be good, and carry this right.
    Optional(String),
    /// Good credentials.
    AnyKey,
    /// Good credentials with this right.
    Right(String),
}

/// An operation as the document has it.
#[derive(Debug, Clone)]
struct Operation {
    method: Method,
    path: String,
    lock: Lock,
    /// The statuses it may answer with.
    statuses: Vec<u16>,
}

fn document() -> Value {
    let text = std::fs::read_to_string(binaries::workspace().join("openapi.json")).expect("openapi.json is committed");
    serde_json::from_str(&text).expect("JSON")
}

/// The operations by their id.
fn operations() -> HashMap<String, Operation> {
    let mut all = HashMap::new();
    for (path, item) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            let read = Operation {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                lock: lock(&operation["security"]).unwrap_or_else(|why| panic!("{id}: {why}")),
                statuses: operation["responses"]
                    .as_object()
                    .expect("responses")
                    .keys()
                    .map(|s| s.parse().expect("a status"))
                    .collect(),
            };
            assert!(all.insert(id.to_owned(), read).is_none(), "two operations are called {id}");
        }
    }
    all
}

/// Reads a `security` requirement: alternatives, each a scheme with its rights; `{}` is no credentials at all.
fn lock(security: &Value) -> Result<Lock, String> {
    let alternatives = security.as_array().map_or(&[][..], Vec::as_slice);
    let optional = alternatives.is_empty() || alternatives.iter().any(|a| a.as_object().is_some_and(|a| a.is_empty()));
    let rights: BTreeSet<String> = alternatives
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|scheme| scheme.values())
        .map(|list| {
            list.as_array()
                .map(|l| l.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        })
        .collect();
    match (optional, rights.into_iter().collect::<Vec<_>>().as_slice()) {
        (true, []) => Ok(Lock::Open),
        // where it is optional, other credentials stand in the body; the samples send none there
        (_, [none]) if none.is_empty() => Ok(Lock::AnyKey),
        (_, [right]) if LEAST.iter().any(|(known, _)| known == right) => {
            Ok(if optional { Lock::Optional(right.clone()) } else { Lock::Right(right.clone()) })
        }
        (_, other) => Err(format!("its ways in ask for {other:?}; name one right that LEAST knows")),
    }
}

#[test]
fn every_operation_has_a_sample_and_every_right_a_least_caller() {
    let operations: BTreeSet<String> = operations().into_keys().collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.operation.to_owned()).collect();
    let missing: Vec<_> = operations.difference(&rows).collect();
    assert!(missing.is_empty(), "add a row to tests/it/rights/table.rs for each of {missing:?}");
    let stale: Vec<_> = rows.difference(&operations).collect();
    assert!(stale.is_empty(), "these operations are no more, and their rows can go: {stale:?}");
    let known: BTreeSet<&str> = LEAST.iter().map(|(right, _)| *right).collect();
    assert_eq!(known, Right::ALL.iter().map(|right| right.as_str()).collect::<BTreeSet<_>>());
}

#[test]
fn the_page_of_rights_is_fresh() {
    let printed = Command::new(binaries::path("ffprobe-api")).arg("rights").output().expect("prints");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("text");
    let committed = std::fs::read_to_string(binaries::workspace().join("docs/rights.md")).unwrap_or_default();
    assert!(printed == committed, "docs/rights.md is stale. Run: make openapi");
    for row in ROWS {
        assert!(printed.contains(&format!("| `{}` |", row.operation)), "{} is not on the page", row.operation);
    }
}

/// Which scopes a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scopes {
    /// None were named: everything its role carries.
    Unset,
    /// The right that is asked for, and no other.
    Exactly,
    /// Every right but that.
    AllBut,
}

/// Whose object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Foreign,
    Nobodys,
}

/// Credentials that open nothing.
const BAD: [&str; 5] = ["none", "malformed", "unknown", "expired", "revoked"];

/// An installation with two tenants, and everybody who asks.
struct Scene {
    installation: Installation,
    _api: Program,
    http: Http,
    own: (TenantId, Http),
    foreign: (TenantId, Http),
    keys: HashMap<(Caller, Option<Vec<&'static str>>), String>,
    bad: HashMap<&'static str, Option<String>>,
    /// Sent as a bearer token beside the key.
    beside: Option<String>,
    count: u32,
}

impl Scene {
    async fn set() -> Self {
        let installation = Installation::new().await;
        let (api, http) = installation.api(&[("MAX_OPEN_UPLOADS", "100000")]);
        let mut sides = Vec::new();
        for name in ["own", "foreign"] {
            let key = installation.another_key(name, Role::Admin, &["*"]).await;
            sides.push((installation.tenant(name).await, http.with_key(Some(&key))));
        }
        let (foreign, own) = (sides.pop().expect("two"), sides.pop().expect("two"));
        let mut bad = HashMap::from([("none", None), ("malformed", Some("ffp_nonsense".to_owned()))]);
        bad.insert("unknown", Some(shared::bootstrap::mint().expose().to_owned()));
        for (what, column) in [("expired", "expires_at"), ("revoked", "revoked_at")] {
            let (id, key) = installation.key_of(own.0, Role::Admin, Reach::Platform, None).await;
            let sql = format!("update api_key set {column} = clock_timestamp() - interval '1 second' where id = $1");
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(&installation.db).await.expect("spoils it");
            bad.insert(what, Some(key));
        }
        let bare = http.with_key(None);
        Self { installation, _api: api, http: bare, own, foreign, keys: HashMap::new(), bad, beside: None, count: 0 }
    }

    /// A key of the own tenant.
    async fn key(&mut self, caller: Caller, scopes: Option<Vec<&'static str>>) -> String {
        if let Some(key) = self.keys.get(&(caller, scopes.clone())) {
            return key.clone();
        }
        let (role, reach) = match caller {
            Caller::Viewer => (Role::Viewer, Reach::Tenant),
            Caller::Submitter => (Role::Submitter, Reach::Tenant),
            Caller::Admin => (Role::Admin, Reach::Tenant),
            Caller::Platform => (Role::Admin, Reach::Platform),
        };
        let (_, key) = self.installation.key_of(self.own.0, role, reach, scopes.as_deref()).await;
        self.keys.insert((caller, scopes), key.clone());
        key
    }

    /// An object that no request has touched.
    async fn object(&self, object: Object, whose: Whose) -> String {
        let (tenant, http) = match whose {
            Whose::Own => &self.own,
            Whose::Foreign => &self.foreign,
            Whose::Nobodys => {
                return match object {
                    Object::Queue => "moon".into(),
                    Object::Delivery => format!("{}/{}", Uuid::new_v4(), Uuid::new_v4()),
                    _ => Uuid::new_v4().to_string(),
                };
            }
        };
        let made = match object {
            Object::Nothing => return String::new(),
            Object::Queue => return "fast".into(),
            Object::Session => return session(http).await.expect("the key is good"),
            Object::Delivery => return self.delivery(*tenant, http).await,
            Object::Webhook => self.webhook(*tenant, http).await,
            Object::Tenant => return tenant.to_string(),
            Object::Job => http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/a.wav"}})).await,
            Object::Batch => {
                let jobs = json!([{"source": {"type": "path", "path": "/a.wav"}}]);
                http.post("/api/v1/batches", &json!({"jobs": jobs})).await
            }
            Object::Upload => return http.upload("a.wav", "hello").await,
            Object::OpenUpload => {
                let request = http.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
                let made = Answer::of(request.header("upload-length", "5")).await;
                return made.header("location").rsplit('/').next().expect("an id").to_owned();
            }
            Object::Key => {
                let body = json!({"name": "x", "role": "admin", "scopes": ["keys:write"]});
                http.post("/api/v1/api-keys", &body).await
            }
        };
        made.json["id"].as_str().unwrap_or_else(|| panic!("{object:?}: {}", made.text)).to_owned()
    }

    /// A webhook; those before go, because a tenant has only so many.
    async fn webhook(&self, tenant: TenantId, http: &Http) -> Answer {
        let sql = "delete from webhook where tenant_id = $1";
        sqlx::query(sql).bind(tenant).execute(&self.installation.db).await.expect("deletes");
        http.post("/api/v1/webhooks", &json!({"url": "https://example.com/hook"})).await
    }

    /// A delivery of a ping.
    async fn delivery(&self, tenant: TenantId, http: &Http) -> String {
        let webhook = self.webhook(tenant, http).await.json["id"].as_str().expect("an id").to_owned();
        let sent = http.post(&format!("/api/v1/webhooks/{webhook}/test"), &json!({})).await;
        assert_eq!(sent.status, 202, "{}", sent.text);
        let path = format!("/api/v1/webhooks/{webhook}/deliveries");
        let mut list = http.get(&path).await;
        // an API with open streams publishes, too: then there is nothing left to do here, but to wait for it
        while list.json["data"] == json!([]) {
            shared::lifecycle::publish(&self.installation.db).await.expect("publishes");
            list = http.get(&path).await;
        }
        format!("{webhook}/{}", list.json["data"][0]["id"].as_str().expect("an id"))
    }

    /// Asks a row with these credentials.
    async fn ask(&mut self, row: &Row, operation: &Operation, key: Option<&str>, whose: Whose) -> Answer {
        let object = match (row.object, whose, key) {
            // one's own is that of the key itself
            (Object::Session, Whose::Own, Some(key)) => session(&self.http.with_key(Some(key))).await,
            _ => None,
        };
        let object = match object {
            Some(object) => object,
            None => self.object(row.object, whose).await,
        };
        let (first, second) = object.split_once('/').unwrap_or((&object, ""));
        let path = operation
            .path
            .replace("{id}", first)
            .replace("{delivery_id}", second)
            .replace("{name}", &object)
            .replace("{stream}", "0");
        let path = path.replace("{file}", "swagger-ui.css");
        assert!(!path.contains('{'), "{path}: say what this parameter stands for");
        self.count += 1;
        let mut request = self.http.request(operation.method.clone(), &path);
        // both headers are taken; every other request uses the other
        request = match key {
            Some(key) if let Some(beside) = &self.beside => request.header("x-api-key", key).bearer_auth(beside),
            Some(key) if self.count.is_multiple_of(2) => request.bearer_auth(key),
            Some(key) => request.header("x-api-key", key),
            None => request,
        };
        for (name, value) in row.headers {
            request = request.header(*name, value.replace("$object", &object));
        }
        request = match row.body {
            Body::Nothing => request,
            Body::Json(text) => {
                let text = text.replace("$object", &object).replace("$unique", &format!("tenant {}", self.count));
                request.header(CONTENT_TYPE, "application/json").body(text)
            }
            Body::Bytes(kind, bytes) => request.header(CONTENT_TYPE, kind).body(bytes),
        };
        Answer::of(request).await
    }
}

/// A session begun with a key, if that opens anything.
async fn session(http: &Http) -> Option<String> {
    let begun = http.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await;
    if begun.status != 200 {
        return None;
    }
    let list = http.get("/api/v1/auth/sessions").await.json;
    list["data"][0]["id"].as_str().map(str::to_owned)
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Unauthorized,
    Forbidden,
    NotFound,
    Done,
}

/// What is wrong with an answer.
fn wrong(row: &Row, operation: &Operation, answer: &Answer, wanted: Wanted) -> Option<String> {
    let (status, code) = (answer.status.as_u16(), answer.json["code"].as_str());
    // HEAD has no body to tell by
    let hidden = status == 404 && (code == Some("not_found") || operation.method == Method::HEAD);
    let good = match wanted {
        Wanted::Unauthorized => status == 401,
        Wanted::Forbidden => status == 403,
        Wanted::NotFound => hidden,
        Wanted::Done => status == row.done && !hidden,
    };
    if !good {
        return Some(format!("{wanted:?} is wanted, {status} came: {}", answer.text));
    }
    let documented = operation.statuses.contains(&status) || ANSWERS_ELSEWHERE.contains(&row.operation);
    (!documented).then(|| format!("{status} is not in the document"))
}

fn with_right(row: &Row, whose: Whose) -> Wanted {
    match whose {
        Whose::Nobodys => Wanted::NotFound,
        Whose::Foreign if row.object.is_owned() => Wanted::NotFound,
        Whose::Own | Whose::Foreign => Wanted::Done,
    }
}

#[tokio::test]
async fn only_who_may_can() {
    let mut scene = Scene::set().await;
    let operations = operations();
    let (mut findings, mut asked) = (Vec::new(), 0);
    for row in ROWS {
        let operation = &operations[row.operation];
        let objects = match row.object {
            Object::Nothing => &[Whose::Own][..],
            _ => &[Whose::Own, Whose::Foreign, Whose::Nobodys],
        };
        for whose in objects.iter().copied() {
            for bad in BAD {
                let key = scene.bad[bad].clone();
                let wanted = match &operation.lock {
                    Lock::Open => Wanted::Done,
                    Lock::Optional(_) if bad == "none" => Wanted::Done,
                    _ => Wanted::Unauthorized,
                };
                let answer = scene.ask(row, operation, key.as_deref(), whose).await;
                asked += 1;
                findings.extend(
                    wrong(row, operation, &answer, wanted)
                        .map(|w| format!("{} with {bad} key, {whose:?}: {w}", row.operation)),
                );
            }
            for (caller, scopes, has_right) in askers(&operation.lock) {
                let key = scene.key(caller, scopes_of(&operation.lock, scopes)).await;
                let wanted = match &operation.lock {
                    Lock::Open => Wanted::Done,
                    _ if !has_right => Wanted::Forbidden,
                    _ => with_right(row, whose),
                };
                let answer = scene.ask(row, operation, Some(&key), whose).await;
                asked += 1;
                findings.extend(
                    wrong(row, operation, &answer, wanted)
                        .map(|w| format!("{} as {caller:?}, scopes {scopes:?}, {whose:?}: {w}", row.operation)),
                );
            }
        }
    }
    println!("{asked} requests about {} operations", operations.len());
    let told: Vec<_> = findings.iter().take(TOLD).collect();
    assert!(findings.is_empty(), "{} of {asked} answers are wrong, such as {told:#?}", findings.len());
}

#[tokio::test]
async fn nobody_asks_with_two_different_keys() {
    let mut scene = Scene::set().await;
    let (mut findings, operations) = (Vec::new(), operations());
    let key = scene.key(Caller::Platform, None).await;
    let other = scene.key(Caller::Viewer, None).await;
    for row in ROWS {
        let operation = &operations[row.operation];
        scene.beside = Some(other.clone());
        let answer = scene.ask(row, operation, Some(&key), Whose::Foreign).await;
        let code = answer.json["code"].as_str();
        let good = match &operation.lock {
            Lock::Open => wrong(row, operation, &answer, Wanted::Done).is_none(),
            // HEAD has no body to tell by
            _ => answer.status == 400 && (code == Some("conflicting_credentials") || operation.method == Method::HEAD),
        };
        if !good {
            findings.push(format!("{}: {} {}", row.operation, answer.status, answer.text));
        }
        // the same key twice is one
        scene.beside = Some(key.clone());
        let answer = scene.ask(row, operation, Some(&key), Whose::Own).await;
        findings.extend(
            wrong(row, operation, &answer, Wanted::Done).map(|w| format!("{} with one key twice: {w}", row.operation)),
        );
    }
    assert!(
        findings.is_empty(),
        "{} are wrong, such as {:#?}",
        findings.len(),
        findings.iter().take(TOLD).collect::<Vec<_>>()
    );
}

/// Everybody who asks for a lock to open, and whether they have the right.
fn askers(lock: &Lock) -> Vec<(Caller, Scopes, bool)> {
    let least = match lock {
        Lock::Open | Lock::AnyKey => None,
        Lock::Optional(right) | Lock::Right(right) => {
            LEAST.iter().find(|(known, _)| known == right).map(|(_, least)| *least)
        }
    };
    let kinds = if least.is_some() { &[Scopes::Unset, Scopes::Exactly, Scopes::AllBut][..] } else { &[Scopes::Unset] };
    let askers = Caller::ALL.iter().flat_map(|caller| kinds.iter().map(|scopes| (*caller, *scopes)));
    askers.map(|(c, s)| (c, s, s != Scopes::AllBut && least.is_none_or(|least| c >= least))).collect()
}

/// The words of a key's scopes.
fn scopes_of(lock: &Lock, scopes: Scopes) -> Option<Vec<&'static str>> {
    let (Lock::Optional(asked) | Lock::Right(asked)) = lock else { return None };
    let words = LEAST.iter().map(|(right, _)| *right);
    match scopes {
        Scopes::Unset => None,
        Scopes::Exactly => Some(words.filter(|right| right == asked).collect()),
        Scopes::AllBut => Some(words.filter(|right| right != asked).collect()),
    }
}

#[test]
fn locks_are_read_as_they_are_meant() {
    let read = |security: Value| lock(&security).ok();
    assert_eq!(read(Value::Null), Some(Lock::Open));
    assert_eq!(read(json!([{}])), Some(Lock::Open));
    assert_eq!(read(json!([{"api_key": []}, {"bearer": []}])), Some(Lock::AnyKey));
    assert_eq!(
        read(json!([{"api_key": ["jobs:read"]}, {"bearer": ["jobs:read"]}])),
        Some(Lock::Right("jobs:read".into()))
    );
    assert_eq!(read(json!([{}, {"api_key": ["jobs:read"]}])), Some(Lock::Optional("jobs:read".into())));
    assert_eq!(read(json!([{"api_key": ["jobs:read"]}, {"bearer": ["jobs:write"]}])), None);
    assert_eq!(read(json!([{"api_key": ["moon:read"]}])), None);
    assert_eq!(askers(&Lock::Right("keys:read".into())).iter().filter(|a| a.2).count(), 4);
}
