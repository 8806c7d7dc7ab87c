//! Which requests over HTTP get in at all: by the name that they ask for, and by the page that a browser sends them from.
//!
//! A page in a browser may send requests to any address its user reaches, this server's too. Two things tell such a page:
//! - the `Host` header is a name of its own that points here (rebinding of DNS), so only known names and plain addresses
//!   are let in, as go-ethereum's `vhosts` do;
//! - the `Origin` header is the page's, so only known origins are let in, for WebSockets too, which no CORS holds back.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    HOST, HeaderValue, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode};

/// How long a browser remembers that an origin may ask, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// Who gets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// Names under which this server may be asked, beside plain addresses; `*` is every name.
    pub hosts: Vec<String>,
    /// Origins of pages that may ask, as browsers write them; `*` is every origin. None by default.
    pub origins: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It gets in; its answer carries this origin, if it came from a page.
    In(Option<HeaderValue>),
    /// A browser asks whether a page of this origin may ask.
    Preflight(HeaderValue),
    /// It does not, for this reason.
    Out(&'static str),
}

impl Gate {
    /// Names of this machine alone, and no pages.
    pub fn local() -> Self {
        Self { hosts: vec!["localhost".to_owned()], origins: Vec::new() }
    }

    pub(super) fn judge<B>(&self, request: &Request<B>) -> Passage {
        if !self.knows_host(request) {
            return Passage::Out("the host that was asked for is none of this server's\n");
        }
        match single(request.headers(), &ORIGIN) {
            Err(()) => Passage::Out("more than one origin\n"),
            Ok(None) => Passage::In(None),
            Ok(Some(origin)) if !self.knows_origin(origin) => Passage::Out("pages of this origin may not ask\n"),
            Ok(Some(origin)) if request.method() == Method::OPTIONS => Passage::Preflight(origin.clone()),
            Ok(Some(origin)) => Passage::In(Some(origin.clone())),
        }
    }

    fn knows_host<B>(&self, request: &Request<B>) -> bool {
        let Ok(header) = single(request.headers(), &HOST) else { return false };
        let authority = match (header, request.uri().authority()) {
            (Some(header), _) => header.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
            (None, authority) => authority.cloned(),
        };
        let Some(authority) = authority else { return false };
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().is_ok()
            || self.hosts.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(host))
    }

    fn knows_origin(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        self.origins.iter().any(|known| known == "*" || known.as_bytes().eq_ignore_ascii_case(origin))
    }
}

/// The header, of which there must not be two.
fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(()),
        (first, None) => Ok(first),
    }
}

/// Tells the browser that the page may read this answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// The answer to a browser that asks beforehand.
pub(super) fn preflight<B: Default>(origin: HeaderValue) -> http::Response<B> {
    let mut response = http::Response::new(B::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(headers, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(gate: &Gate, headers: &[(&str, &str)]) -> Passage {
        let request = headers.iter().fold(Request::post("/"), |request, (name, value)| request.header(*name, *value));
        gate.judge(&request.body(()).unwrap())
    }

    #[test]
    fn addresses_and_known_names_get_in_and_others_do_not() {
        let gate = Gate::local();
        for host in ["localhost", "LOCALHOST:8545", "127.0.0.1:8545", "[::1]:8545", "10.1.2.3"] {
            assert_eq!(judge(&gate, &[("host", host)]), Passage::In(None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "", "[::1", "127.0.0.1.evil.example"] {
            assert!(matches!(judge(&gate, &[("host", host)]), Passage::Out(_)), "{host}");
        }
        assert!(matches!(judge(&gate, &[]), Passage::Out(_)), "no host at all");
        assert!(matches!(judge(&gate, &[("host", "localhost"), ("host", "evil.example")]), Passage::Out(_)));
        let every = Gate { hosts: vec!["*".to_owned()], ..Gate::local() };
        assert_eq!(judge(&every, &[("host", "node.example")]), Passage::In(None));
    }

    #[test]
    fn pages_get_in_by_their_origin_alone() {
        let page = |origin| [("host", "localhost"), ("origin", origin)];
        assert!(matches!(judge(&Gate::local(), &page("https://app.example")), Passage::Out(_)));
        assert!(matches!(judge(&Gate::local(), &page("null")), Passage::Out(_)));
        let gate = Gate { origins: vec!["https://app.example".to_owned()], ..Gate::local() };
        let origin = HeaderValue::from_static("https://app.example");
        assert_eq!(judge(&gate, &page("https://app.example")), Passage::In(Some(origin)));
        assert!(matches!(judge(&gate, &page("https://app.example.evil.example")), Passage::Out(_)));
    }
}
