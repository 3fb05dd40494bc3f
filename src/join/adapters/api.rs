//! MAAS's API on this machine, with the administrator's key (OAuth 1, PLAINTEXT, as MAAS's own client signs).

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use super::http::Http;
use super::local;
use crate::join::world::Trouble;

/// How long MAAS may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API behind a key.
#[derive(Clone, Debug)]
pub struct Api<'a> {
    http: &'a Http,
    key: Key,
    address: Ipv4Addr,
}

/// An API key: consumer, token and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    consumer: String,
    token: String,
    secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    /// Reads `consumer:token:secret`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split(':').map(str::to_owned);
        let key = Self { consumer: parts.next()?, token: parts.next()?, secret: parts.next()? };
        let plain = |part: &String| !part.is_empty() && part.chars().all(|one| one.is_ascii_alphanumeric());
        let whole = parts.next().is_none() && [&key.consumer, &key.token, &key.secret].into_iter().all(plain);
        whole.then_some(key)
    }

    /// The header of a request (RFC 5849, 3.4.4). The time is the only thing that has to differ.
    fn header(&self, now: u64, nonce: u64) -> String {
        let Self { consumer, token, secret } = self;
        format!(
            "OAuth realm=\"\", oauth_version=\"1.0\", oauth_signature_method=\"PLAINTEXT\", oauth_timestamp=\"{now}\", \
             oauth_nonce=\"{nonce:x}\", oauth_consumer_key=\"{consumer}\", oauth_token=\"{token}\", \
             oauth_signature=\"%26{secret}\""
        )
    }
}

impl<'a> Api<'a> {
    /// The API of the region at `address`.
    pub fn at(http: &'a Http, address: Ipv4Addr, key: Key) -> Self {
        Self { http, key, address }
    }

    /// Reads what is at `place`, as `subnets/`.
    ///
    /// # Errors
    /// When MAAS does not answer, or refuses.
    pub fn read(&self, place: &str) -> Result<Value, Trouble> {
        let authorization = self.authorization();
        let headers = [("Authorization", authorization.as_str()), ("Accept", "application/json")];
        let body = self.http.get(&self.url(place), &headers, PATIENCE)?.good(&format!("MAAS, {place}"))?;
        serde_json::from_slice(&body).map_err(|error| Trouble(format!("MAAS's answer is not understood: {error}")))
    }

    /// Creates (`POST`) or changes (`PUT`) what is at `place`.
    ///
    /// # Errors
    /// When MAAS does not answer, or refuses.
    pub fn write(&self, method: &str, place: &str, fields: &[(&str, &str)]) -> Result<(), Trouble> {
        let authorization = self.authorization();
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Accept", "application/json"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let reply = self.http.send(method, &self.url(place), &headers, form(fields).as_bytes(), PATIENCE)?;
        reply.good(&format!("MAAS, {place}")).map(drop)
    }

    /// Deletes what is at `place`.
    ///
    /// # Errors
    /// When MAAS does not answer, or refuses.
    pub fn delete(&self, place: &str) -> Result<(), Trouble> {
        let authorization = self.authorization();
        let headers = [("Authorization", authorization.as_str())];
        self.http.delete(&self.url(place), &headers, PATIENCE)?.good(&format!("MAAS, {place}")).map(drop)
    }

    fn url(&self, place: &str) -> String {
        format!("http://{}:5240/MAAS/api/2.0/{place}", self.address)
    }

    fn authorization(&self) -> String {
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.key.header(local::now(), nonce.map_or(0, |since| since.as_nanos() as u64))
    }
}

/// A form, percent-encoded.
fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let one = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect::<String>()
    };
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_three_words() {
        assert!(Key::parse("aB1:cD2:eF3\n").is_some());
        for other in ["", "a:b", "a:b:c:d", "a::c", "a:b:c\"", "a:b:c d"] {
            assert!(Key::parse(other).is_none(), "{other}");
        }
        let header = Key::parse("a:b:c").unwrap().header(7, 10);
        assert!(header.contains("oauth_signature=\"%26c\"") && header.contains("oauth_timestamp=\"7\""));
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form(&[("a b", "10.0.0.0/24&"), ("c", "é")]), "a%20b=10.0.0.0%2F24%26&c=%C3%A9");
    }
}
