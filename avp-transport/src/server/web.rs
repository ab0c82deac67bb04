//! The allowed hosts of a server, and the allowed origins of web pages.
//!
//! A browser sends the requests of any page to any address, a server on the same machine included. It says where a page comes from
//! in `Origin` and `Sec-Fetch-Site`, which no page can change, and in `Host` by which name it found the server.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, IF_RANGE, ORIGIN,
        RANGE, RETRY_AFTER,
    },
};
use tower_http::cors::CorsLayer;

use super::ErrorResponse;
use crate::wire;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which a server may be addressed: any IP address, `localhost`, and the given ones.
///
/// A web page can direct a name of its own at this machine after it was loaded ("DNS rebinding"), so that a browser takes the
/// server for a part of the page. The name is then in `Host`, and the request is refused.
///
/// ```
/// use avp_transport::server::AllowedHosts;
///
/// let hosts = AllowedHosts::new(["avp.example.com"])?;
/// assert!(hosts.admit("avp.example.com:8790") && hosts.admit("127.0.0.1") && hosts.admit("localhost:80"));
/// assert!(!hosts.admit("rebound.evil.example"));
/// # Ok::<(), avp_transport::server::InvalidName>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Box<str>>);

impl AllowedHosts {
    /// Adds names to those that every server has.
    ///
    /// # Errors
    ///
    /// If one is not a host name: it may have neither scheme, port nor path.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, InvalidName> {
        let parse = |name: S| {
            let name = name.as_ref();
            let host = host(name).filter(|host| host.len() == name.len() && !["", "*"].contains(host));
            host.map(|host| host.strip_suffix('.').unwrap_or(host).into()).ok_or_else(|| InvalidName {
                expected: "a host name, such as avp.example.com",
                got: name.into(),
            })
        };
        names.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an authority, a host with or without a port, names this server.
    #[must_use]
    pub fn admit(&self, authority: &str) -> bool {
        let Some(host) = host(authority) else { return false };
        let host = host.strip_suffix('.').unwrap_or(host);
        // The address that a page names as such is the address that the browser connects to.
        let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let is = |name: &str| name.eq_ignore_ascii_case(host);
        is_address || is("localhost") || self.0.iter().any(|name| is(name))
    }

    /// # Errors
    ///
    /// If a request names a host that is not allowed. A request without a host is admitted: browsers always send one.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), ErrorResponse> {
        let in_uri = request.uri().authority().map(|authority| authority.as_str());
        let in_header = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        if in_uri.into_iter().chain(in_header).all(|authority| self.admit(authority)) {
            return Ok(());
        }
        let message = "`Host` is not an IP address, `localhost`, or a host name that this server allows";
        Err(ErrorResponse::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message))
    }
}

/// The origins of web pages that may use a server. None by default.
///
/// ```
/// use avp_transport::server::{AllowedOrigins, ServerOptions};
///
/// let origins = AllowedOrigins::new(["https://app.example.com", "http://localhost:3000"])?;
/// let options = ServerOptions { origins, ..Default::default() };
/// # Ok::<(), avp_transport::server::InvalidName>(())
/// ```
///
/// A page of another origin is refused with 403, whether it could read the response or not. A page of an allowed one gets the
/// headers of [CORS](https://fetch.spec.whatwg.org/#http-cors-protocol).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl AllowedOrigins {
    /// Allows these origins.
    ///
    /// # Errors
    ///
    /// If one is not a scheme and a host, with a port unless it is the scheme's.
    pub fn new<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Result<Self, InvalidName> {
        origins.into_iter().map(|given| origin(given.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// # Errors
    ///
    /// If a web page of an origin that is not allowed has caused the request.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), ErrorResponse> {
        let site = headers.get(&SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        let is_allowed = match headers.get(ORIGIN) {
            Some(origin) => site == Some(b"same-origin") || self.0.contains(origin),
            // A typed address, or a client without a browser.
            None => matches!(site, None | Some(b"none" | b"same-origin")),
        };
        if is_allowed {
            return Ok(());
        }
        let message = "web pages of this origin may not use this server";
        Err(ErrorResponse::new(StatusCode::FORBIDDEN, "origin_not_allowed", message))
    }

    /// What answers preflight requests and marks responses; `None` if no page is allowed.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        Some(
            CorsLayer::new()
                .allow_origin(self.0.clone())
                .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
                .allow_headers([
                    ACCEPT,
                    AUTHORIZATION,
                    CONTENT_TYPE,
                    IF_NONE_MATCH,
                    IF_RANGE,
                    RANGE,
                    wire::AGENT_HEADER,
                    wire::IDEMPOTENCY_HEADER,
                    wire::REQUEST_ID_HEADER,
                    wire::VERSION_HEADER,
                ])
                .expose_headers([CONTENT_RANGE, ETAG, RETRY_AFTER, wire::REQUEST_ID_HEADER])
                .allow_private_network(true),
        )
    }
}

/// An invalid host name or origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got:?}")]
pub struct InvalidName {
    expected: &'static str,
    got: String,
}

/// The host in an authority; an IPv6 address keeps its brackets.
fn host(authority: &str) -> Option<&str> {
    let parsed = authority.parse::<http::uri::Authority>().ok()?;
    let len = parsed.host().len();
    // Neither user nor password before it, and at most a port behind it.
    let (host, rest) = authority.split_at_checked(len)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let ends = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
    (ends && host == parsed.host()).then_some(host)
}

/// An origin as browsers write it.
fn origin(given: &str) -> Result<HeaderValue, InvalidName> {
    let parse = || {
        let uri: Uri = given.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let is_bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        let host = host(authority.as_str()).filter(|_| is_bare)?.to_ascii_lowercase();
        let port =
            authority.port_u16().filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443)));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        HeaderValue::try_from(format!("{scheme}://{host}{port}")).ok()
    };
    let expected = "an origin, such as https://app.example.com or http://localhost:3000";
    parse().ok_or_else(|| InvalidName { expected, got: given.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_given_names_are_this_servers() {
        let hosts = AllowedHosts::new(["Avp.Example.com", "gpu-7"]).unwrap();
        for own in [
            "127.0.0.1",
            "127.0.0.1:8790",
            "[::1]:8790",
            "[::1]",
            "10.0.0.7:1",
            "localhost",
            "LOCALHOST.:80",
            "avp.example.com",
            "AVP.example.com.:443",
            "gpu-7:8790",
        ] {
            assert!(hosts.admit(own), "{own}");
        }
        for other in [
            "",
            ":8790",
            "rebound.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "sub.avp.example.com",
            "gpu-7@evil.example",
            "localhost/",
            "a b",
            "[::1]evil.example",
        ] {
            assert!(!hosts.admit(other), "{other}");
        }
    }

    #[test]
    fn names_are_hosts_without_port_and_origins_have_nothing_behind_the_port() {
        for wrong in ["", "a:1", "http://a", "a/b", "u@a", "a b", "*"] {
            assert!(AllowedHosts::new([wrong]).is_err(), "{wrong}");
        }
        assert!(AllowedHosts::new(["a.example."]).unwrap().admit("a.example"));
        for wrong in
            ["", "null", "*", "a.example", "https://", "https://a/b", "https://a?b", "https://u@a", "//a"]
        {
            let error = AllowedOrigins::new([wrong]).unwrap_err();
            assert!(error.to_string().ends_with(&format!("got {wrong:?}")), "{error}");
        }
        let written = |given| AllowedOrigins::new([given]).unwrap().0[0].to_str().unwrap().to_owned();
        assert_eq!(written("https://App.Example:443/"), "https://app.example");
        assert_eq!(written("http://[::1]:3000"), "http://[::1]:3000");
    }

    #[test]
    fn only_pages_of_allowed_origins_and_clients_that_are_no_browser_are_admitted() {
        let origins = AllowedOrigins::new(["https://app.example"]).unwrap();
        let admit = |origin: Option<&'static str>, site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|value| (ORIGIN, HeaderValue::from_static(value))));
            headers.extend(site.map(|value| (SEC_FETCH_SITE, HeaderValue::from_static(value))));
            origins.check(&headers).is_ok()
        };
        for (origin, site) in [
            (None, None),
            (None, Some("none")),
            (None, Some("same-origin")),
            (Some("https://app.example"), None),
            (Some("https://app.example"), Some("cross-site")),
            (Some("http://127.0.0.1:8790"), Some("same-origin")),
        ] {
            assert!(admit(origin, site), "{origin:?} {site:?}");
        }
        for (origin, site) in [
            (None, Some("cross-site")),
            (None, Some("same-site")),
            (Some("null"), None),
            (Some("https://evil.example"), None),
            (Some("http://app.example"), Some("cross-site")),
            (Some("https://app.example.evil.example"), Some("cross-site")),
            (Some("http://localhost:3000"), Some("same-site")),
            (Some("chrome-extension://abc"), Some("none")),
        ] {
            assert!(!admit(origin, site), "{origin:?} {site:?}");
        }
    }
}
