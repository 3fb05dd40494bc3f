//! A bucket of an S3-compatible server: its URLs, and signing what is asked of it.
//!
//! Specification: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference, in an `Authorization`
//! header, so that no URL is worth anything. The digest of what is sent is signed: a server refuses other bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use time::OffsetDateTime;
use ureq::http::{HeaderName, Method, header};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};

use super::Environment;
use super::wire::Ask;

/// Keys to a bucket. Do not print.
#[derive(Clone)]
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keys")
    }
}

/// A bucket, or a part of one.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Scheme and host: `https://s3.eu-west-1.amazonaws.com`.
    server: String,
    /// What stands before each name, percent-encoded: `/BUCKET/PREFIX`.
    path: String,
    region: String,
    keys: Option<Keys>,
}

impl Bucket {
    /// The bucket `name` of the server that `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` names, else of Amazon's; with the keys
    /// of `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else as anybody.
    ///
    /// # Errors
    /// When the server is no URL, or half of the keys is there.
    pub fn new(shown: &str, name: &str, prefix: &str, environment: Environment<'_>) -> Result<Self, Diagnostic> {
        let set = |names: &[&str]| names.iter().find_map(|name| environment(name).filter(|value| !value.is_empty()));
        let refuse = |why: &str| {
            Diagnostic::error(Kind::Usage, format!("`{shown}` cannot be asked for: {why}"))
                .hint("the server is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else Amazon's; the region AWS_REGION")
        };
        let region = set(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
        let (endpoint, in_host) = match set(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
            Some(endpoint) => (endpoint, false),
            // A name with dots is no host that Amazon's certificates are for.
            None if name.contains('.') => (format!("https://s3.{region}.amazonaws.com"), false),
            None => (format!("https://{name}.s3.{region}.amazonaws.com"), true),
        };
        let (scheme, rest) = endpoint.split_once("://").ok_or_else(|| refuse("its server is no URL"))?;
        let (host, path) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['@', '?', '#', ' ']) {
            return Err(refuse("its server is no URL of http or https"));
        }
        let keys = match (set(&["AWS_ACCESS_KEY_ID"]), set(&["AWS_SECRET_ACCESS_KEY"])) {
            (Some(id), Some(secret)) => Some(Keys { id, secret, token: set(&["AWS_SESSION_TOKEN"]) }),
            (None, None) => None,
            _ => return Err(refuse("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")),
        };
        let parts = [path, if in_host { "" } else { name }, prefix];
        let path = parts.iter().filter(|part| !part.is_empty()).map(|part| format!("/{}", encode(part))).collect();
        Ok(Self { server: format!("{scheme}://{host}"), path, region, keys })
    }

    /// A request for what is named `name`, whose body has the digest `payload`.
    pub fn ask(&self, method: Method, name: &str, payload: &Digest) -> Ask<'static> {
        let path = format!("{}/{}", self.path, encode(name));
        let ask = Ask::new(method, format!("{}{path}", self.server));
        let Some(keys) = &self.keys else { return ask };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let host = self.server.split_once("://").map_or("", |(_, host)| host);
        let mut headers = vec![
            ("host", host.to_owned()),
            ("x-amz-content-sha256", payload.to_string()),
            ("x-amz-date", moment(since)),
        ];
        headers.extend(keys.token.clone().map(|token| ("x-amz-security-token", token)));
        let signed = sign(keys, &self.region, &ask.method, &path, &headers, payload);
        let headers = headers.into_iter().filter(|(name, _)| *name != "host");
        let ask = headers.fold(ask, |ask, (name, value)| ask.header(HeaderName::from_static(name), value));
        ask.header(header::AUTHORIZATION, signed)
    }
}

/// `20130524T000000Z`, of seconds since the Epoch.
fn moment(since: i64) -> String {
    let now = OffsetDateTime::from_unix_timestamp(since).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (now.date(), now.time().as_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The value of the `Authorization` header. `headers` are sorted by name, and `x-amz-date` is one of them.
fn sign(
    keys: &Keys,
    region: &str,
    method: &Method,
    path: &str,
    headers: &[(&str, String)],
    payload: &Digest,
) -> String {
    let moment = headers.iter().find(|(name, _)| *name == "x-amz-date").map_or("", |(_, value)| value.as_str());
    let date = &moment[..moment.len().min(8)];
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let listed: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("{method}\n{path}\n\n{listed}\n{names}\n{payload}");
    let scope = format!("{date}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", Digest::of(request.as_bytes()));
    let step =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let first = step(format!("AWS4{}", keys.secret).as_bytes(), date);
    let key = [region, "s3", "aws4_request"].iter().fold(first, |key, part| step(&key, part));
    let signature: String = step(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", keys.id)
}

/// A path percent-encoded as S3 counts it: all but unreserved characters and `/`.
fn encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example "GET Object" of the API reference.
    #[test]
    fn a_request_is_signed_as_amazon_shows_it() {
        let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let keys = Keys { id: id.to_owned(), secret: secret.to_owned(), token: None };
        let empty = Digest::of(b"");
        let headers = [
            ("host", "examplebucket.s3.amazonaws.com".to_owned()),
            ("range", "bytes=0-9".to_owned()),
            ("x-amz-content-sha256", empty.to_string()),
            ("x-amz-date", moment(1_369_353_600)),
        ];
        let signed = sign(&keys, "us-east-1", &Method::GET, "/test.txt", &headers, &empty);
        let expected = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
            SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
            Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signed, expected);
    }

    #[test]
    fn buckets_are_found_and_their_keys_never_print() {
        let environment = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        let url = |bucket: &Bucket| bucket.ask(Method::GET, "blobs/a b", &Digest::of(b"")).url;
        let amazon = Bucket::new("s3://b/p", "b", "p", &environment(&[("AWS_REGION", "eu-west-1")])).unwrap();
        assert_eq!(url(&amazon), "https://b.s3.eu-west-1.amazonaws.com/p/blobs/a%20b");
        let pairs = &[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ];
        let own = Bucket::new("s3://b", "b", "", &environment(pairs)).unwrap();
        assert_eq!(url(&own), "http://127.0.0.1:9000/b/blobs/a%20b");
        assert!(!format!("{own:?}").contains("hunter2"));
        assert!(Bucket::new("s3://b", "b", "", &environment(&[("AWS_ACCESS_KEY_ID", "id")])).is_err());
        assert!(Bucket::new("s3://b", "b", "", &environment(&[("AWS_ENDPOINT_URL", "ftp://x")])).is_err());
    }
}
