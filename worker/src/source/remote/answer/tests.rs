//! What status and headers mean, case by case. No server: `answer` is pure.

use hyper::header::HeaderValue;

use super::*;

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn first_of(status: u16, list: &[(&'static str, &str)]) -> Result<First, FailureCode> {
    let status = StatusCode::from_u16(status).unwrap();
    first(status, &headers(list), "/a/b.mp4", 100, SystemTime::UNIX_EPOCH).map_err(|f| f.code)
}

fn part_of(status: u16, list: &[(&'static str, &str)], validator: Validator) -> Result<u64, FailureCode> {
    let status = StatusCode::from_u16(status).unwrap();
    let object = Object { size_bytes: 500, validator, name: "x".into() };
    part(status, &headers(list), &object, 100, 200, SystemTime::UNIX_EPOCH).map_err(|f| f.code)
}

#[test]
fn a_first_part_tells_size_version_and_name() {
    let whole = [("content-range", "bytes 0-99/500"), ("etag", "\"v1\""), ("last-modified", "today")];
    let first = first_of(206, &whole).unwrap();
    assert_eq!(first.until, Some(100));
    let object = Object { size_bytes: 500, validator: Validator::Tag("\"v1\"".into()), name: "b.mp4".into() };
    assert_eq!(first.object, object);
    let weak = [("content-range", "bytes 0-9/10"), ("etag", "W/\"v1\""), ("last-modified", "today")];
    assert_eq!(first_of(206, &weak).unwrap().object.validator, Validator::Modified("today".into()));
    let named = [("content-range", "bytes 0-9/10"), ("content-disposition", "attachment; filename=c.mkv")];
    let object = first_of(206, &named).unwrap().object;
    assert_eq!((object.name.as_str(), object.validator), ("c.mkv", Validator::None));
    assert_eq!(first_of(200, &[("content-length", "7")]).unwrap().until, None);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    use FailureCode as C;
    for (status, list, code) in [
        (206, &[("content-range", "bytes 0-99/*")][..], C::RangeNotSupported),
        (206, &[("content-range", "bytes 1-99/500")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-100/500")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-99/50")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-18446744073709551615/500")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0--1/500")], C::RemoteRejected),
        (206, &[("content-range", "bytes 5")], C::RemoteRejected),
        (206, &[], C::RemoteRejected),
        (206, &[("content-type", "multipart/byteranges; boundary=x")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-99/500"), ("content-length", "5")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-99/500"), ("content-encoding", "gzip")], C::RemoteRejected),
        (206, &[("content-range", "bytes 0-99/500"), ("content-range", "bytes 0-99/600")], C::RemoteRejected),
        (200, &[("content-length", "500"), ("content-encoding", "gzip")], C::RemoteRejected),
        (200, &[("content-length", "0")], C::EmptyInput),
        (200, &[], C::RangeNotSupported),
        (416, &[("content-range", "bytes */0")], C::EmptyInput),
        (416, &[], C::EmptyInput),
        (416, &[("content-range", "bytes */500")], C::RangeNotSupported),
        (204, &[], C::RemoteRejected),
        (304, &[], C::RemoteRejected),
        (400, &[], C::RemoteRejected),
        (401, &[], C::RemoteForbidden),
        (403, &[], C::RemoteForbidden),
        (404, &[], C::RemoteNotFound),
        (410, &[], C::RemoteNotFound),
        (408, &[], C::RemoteUnavailable),
        (429, &[], C::RemoteUnavailable),
        (500, &[], C::RemoteUnavailable),
        (501, &[], C::RemoteRejected),
        (503, &[], C::RemoteUnavailable),
    ] {
        assert_eq!(first_of(status, list).err(), Some(code), "{status} {list:?}");
    }
}

#[test]
fn a_later_part_must_be_of_the_same_version() {
    use FailureCode as C;
    let tag = || Validator::Tag("\"v1\"".into());
    let good = ("content-range", "bytes 100-199/500");
    assert_eq!(part_of(206, &[good, ("etag", "\"v1\"")], tag()), Ok(200));
    assert_eq!(part_of(206, &[good], tag()), Ok(200));
    assert_eq!(part_of(206, &[("content-range", "bytes 100-149/500")], tag()), Ok(150));
    for (status, list, code) in [
        (206, &[good, ("etag", "\"v2\"")][..], C::SourceChanged),
        (206, &[("content-range", "bytes 100-199/501"), ("etag", "\"v1\"")], C::SourceChanged),
        (206, &[("content-range", "bytes 0-99/500")], C::RemoteRejected),
        (200, &[("content-length", "500"), ("etag", "\"v2\"")], C::SourceChanged),
        (200, &[("content-length", "500"), ("etag", "\"v1\"")], C::RangeNotSupported),
        (404, &[], C::SourceChanged),
        (412, &[], C::SourceChanged),
        (416, &[], C::SourceChanged),
        (403, &[], C::RemoteForbidden),
        (503, &[], C::RemoteUnavailable),
    ] {
        assert_eq!(part_of(status, list, tag()), Err(code), "{status} {list:?}");
    }
    let modified = Validator::Modified("a".into());
    assert_eq!(part_of(206, &[good, ("last-modified", "b")], modified), Err(C::SourceChanged));
}

#[test]
fn both_forms_of_retry_after_are_read_and_bounded() {
    let wait = |text: &str| retry_after(&headers(&[("retry-after", text)]), SystemTime::UNIX_EPOCH);
    for (text, seconds) in [
        ("0", Some(0)),
        ("120", Some(120)),
        ("999999999", Some(24 * 3600)),
        ("99999999999999999999999", None),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:01:00 GMT", Some(60)),
        ("Wed, 31 Dec 1969 00:00:00 GMT", None),
        ("Thu, 01 Jan 2099 00:00:00 GMT", Some(24 * 3600)),
    ] {
        assert_eq!(wait(text).map(|w| w.as_secs()), seconds, "{text}");
    }
}

proptest::proptest! {
    /// Whatever a server writes, what is believed of it fits what was asked, and nothing panics.
    #[test]
    fn no_header_is_believed_beyond_what_was_asked(
        status in proptest::sample::select(vec![200_u16, 206, 416, 503]),
        range in "(bytes )?[0-9*-]{0,21}-?[0-9]{0,21}/?[0-9*]{0,21}|[ -~]{0,40}",
        length in "[0-9]{0,21}",
        disposition in "[a-z]*;? ?filename=\\PC{0,40}",
    ) {
        let Ok(disposition) = HeaderValue::from_str(&disposition) else { return Ok(()) };
        let mut headers = headers(&[("content-range", &range), ("content-length", &length), ("retry-after", &length)]);
        headers.insert("content-disposition", disposition);
        let status = StatusCode::from_u16(status).unwrap();
        if let Ok(first) = first(status, &headers, &range, 100, SystemTime::now()) {
            proptest::prop_assert!(first.object.size_bytes > 0);
            proptest::prop_assert!(first.until.is_none_or(|u| (1..=first.object.size_bytes.min(100)).contains(&u)));
            proptest::prop_assert!(!first.object.name.contains(['/', '\\', '\0']) && !first.object.name.is_empty());
        }
        let object = Object { size_bytes: 500, validator: Validator::None, name: "x".into() };
        if let Ok(end) = part(status, &headers, &object, 100, 200, SystemTime::now()) {
            proptest::prop_assert!((101..=200).contains(&end));
        }
    }
}

/// The rows of the page that name a status say what happens to it.
#[test]
fn the_page_of_failures_knows_every_status() {
    let page = include_str!("../../../../../docs/failures.md");
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| status ")).collect();
    for row in &rows {
        let [status, code, ..] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        let fault = first(status, &HeaderMap::new(), "/a", 1, SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(fault.code.as_str(), code.trim_matches('`'), "{status}");
    }
    assert!(rows.len() > 8, "{rows:?}");
}
