//! Where a request may go, as far as its URL says: scheme, credentials, port, and the address where
//! one is written out.

use std::net::IpAddr;

use reqwest::Url;

use super::address;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 4096;
/// The ports of public hosts that are reached. Behind others may be something that is no web server
/// and takes a request for something else.
const PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// A place that is not to be asked, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub(crate) String);

/// A host and port that the operator opens, whatever address the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    /// Reads `host:port`, such as `wiki.intranet:8080`, `10.0.0.7:80` or `[fd00::7]:80`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no host with a port, such as wiki.intranet:8080");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let has_port = host.contains(':') && !host.ends_with(']');
        if has_port || host.contains('*') {
            return Err(wrong());
        }
        let url = Url::parse(&format!("http://{host}/")).map_err(|_| wrong())?;
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && !has_credentials(&url);
        match url.host_str() {
            Some(host) if is_bare && port > 0 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(wrong()),
        }
    }
}

/// What is reached and what is not.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Opened by the operator.
    pub(crate) allow: Vec<Destination>,
    /// Whether an address may be connected to; of a host that is not opened.
    pub(crate) may_connect: fn(IpAddr) -> bool,
    /// Likewise a port.
    pub(crate) may_use: fn(u16) -> bool,
}

impl Rules {
    /// Those of a server: public addresses that are not its own, and the ports of web servers.
    pub(crate) fn of_server(allow: Vec<Destination>) -> Self {
        Self {
            allow,
            may_connect: |address| address::is_public(address) && !is_own(address),
            may_use: |port| PORTS.contains(&port),
        }
    }
}

/// Whether the address is one of this machine: what a firewall keeps from others is open to the machine itself,
/// also at its public address. Only there can a socket have it.
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// A URL that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) url: Url,
    /// Whether the operator has opened it, so that its addresses are not judged.
    pub(crate) is_opened: bool,
}

impl Target {
    /// Judges a URL as an agent writes it.
    pub(crate) fn of(text: &str, rules: &Rules) -> Result<Self, Refusal> {
        let url = Url::parse(text).map_err(|error| Refusal(format!("this is no URL: {error}")))?;
        Self::judged(url, rules)
    }

    /// Judges where a redirect leads.
    pub(crate) fn next(&self, location: &str, rules: &Rules) -> Result<Self, Refusal> {
        let url = self.url.join(location);
        let url =
            url.map_err(|error| Refusal(format!("it redirects to what is no URL: {error}")))?;
        if self.url.scheme() == "https" && url.scheme() == "http" {
            let words = "it redirects from https to http, which anybody on the way can read";
            return Err(Refusal(words.into()));
        }
        Self::judged(url, rules)
    }

    /// The URL without a fragment.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Whether what is sent there is read by nobody on the way, or in the operator's own network only.
    pub fn keeps_secrets(&self) -> bool {
        self.url.scheme() == "https" || self.is_opened
    }

    /// The place as secrets are bound to it: the host, with its port where that is not 443.
    pub fn place(&self) -> String {
        place_of(&self.url)
    }

    /// The host, as the URL has it.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn judged(mut url: Url, rules: &Rules) -> Result<Self, Refusal> {
        let refused = |words: &str| Err(Refusal(words.to_owned()));
        if url.as_str().len() > MAX_URL_BYTES {
            return refused("the URL is too long");
        }
        if !matches!(url.scheme(), "http" | "https") {
            return refused("only http and https are fetched");
        }
        if has_credentials(&url) {
            return refused("a URL with a user or a password is not fetched");
        }
        url.set_fragment(None);
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return refused("the URL has no host");
        };
        let opened = |open: &Destination| open.host == host && open.port == port;
        if rules.allow.iter().any(opened) {
            return Ok(Self {
                url,
                is_opened: true,
            });
        }
        if !(rules.may_use)(port) {
            let ports = PORTS.map(|port| port.to_string()).join(", ");
            return Err(Refusal(format!(
                "only the ports {ports} are reached, not {port}"
            )));
        }
        // The parser has read an IPv4 address in any of its forms, decimal, octal or hexadecimal.
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if literal.is_ok_and(|address| !(rules.may_connect)(address)) {
            return refused("this is no public address");
        }
        Ok(Self {
            url,
            is_opened: false,
        })
    }
}

/// As [`Target::place`], of a URL that nobody need judge.
pub fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        None | Some(443) => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let allow = ["wiki.intranet:8081", "10.0.0.7:80", "[fd00::7]:9000"];
        Rules::of_server(allow.map(|text| Destination::parse(text).unwrap()).to_vec())
    }

    fn reason(url: &str) -> String {
        match Target::of(url, &rules()) {
            Ok(target) => format!("ok {}", target.is_opened),
            Err(Refusal(words)) => words,
        }
    }

    #[test]
    fn an_address_is_refused_in_every_form_that_it_can_be_written_in() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://127.0.0.1:8080/",
            "http://１２７.０.０.１/",
            "http://%31%32%37.0.0.1/",
            "http://0/",
            "http://10.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/latest/meta-data/",
            "http://0xa9fea9fe/",
            "http://[::1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "https://192.168.1.1/",
            "http:\\\\127.0.0.1\\",
        ] {
            assert_eq!(reason(url), "this is no public address", "{url}");
        }
        for url in [
            "http://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://example.com:8443/a?b#c",
        ] {
            assert_eq!(reason(url), "ok false", "{url}");
        }
    }

    #[test]
    fn schemes_credentials_and_ports_are_those_of_the_public_web() {
        for (url, part) in [
            ("ftp://example.com/", "only http and https"),
            ("file:///etc/passwd", "only http and https"),
            ("gopher://example.com/_x", "only http and https"),
            ("data:text/plain,x", "only http and https"),
            ("http://ada:secret@example.com/", "a user or a password"),
            ("http://ada@example.com/", "a user or a password"),
            ("http://8.8.8.8@10.0.0.7/", "a user or a password"),
            ("http://example.com:22/", "not 22"),
            ("http://example.com:6379/", "not 6379"),
            ("example.com", "no URL"),
            ("http://", "no URL"),
            ("http://[fe80::1%25eth0]/", "no URL"),
            ("http://999.999.999.999/", "no URL"),
        ] {
            assert!(reason(url).contains(part), "{url}: {}", reason(url));
        }
        let long = format!("http://example.com/{}", "x".repeat(5_000));
        assert_eq!(reason(&long), "the URL is too long");
    }

    #[test]
    fn what_the_operator_opens_is_open_at_this_port_only() {
        assert_eq!(reason("http://wiki.intranet:8081/x"), "ok true");
        assert_eq!(reason("http://WIKI.intranet:8081/x"), "ok true");
        assert_eq!(reason("http://10.0.0.7/"), "ok true");
        assert_eq!(reason("http://167772167/"), "ok true");
        assert_eq!(reason("http://[fd00:0::7]:9000/"), "ok true");
        // Its addresses are judged like those of any other name.
        assert_eq!(reason("http://wiki.intranet/"), "ok false");
        assert!(reason("http://wiki.intranet:8082/").contains("not 8082"));
        assert_eq!(reason("https://10.0.0.7/"), "this is no public address");
        assert_eq!(reason("http://10.0.0.8/"), "this is no public address");
        assert!(reason("http://[fd00::7]:9001/").contains("not 9001"));
    }

    #[test]
    fn a_redirect_is_judged_anew_and_never_leaves_tls() {
        let rules = rules();
        let from = Target::of("https://example.com/a/b", &rules).unwrap();
        let next = |location: &str| from.next(location, &rules);
        assert_eq!(
            next("../c#x").unwrap().url.as_str(),
            "https://example.com/c"
        );
        assert_eq!(
            next("//example.org/").unwrap().url.as_str(),
            "https://example.org/"
        );
        for (location, part) in [
            ("http://example.com/", "https to http"),
            ("https://127.0.0.1/", "no public address"),
            ("//[::1]/", "no public address"),
            ("file:///etc/passwd", "only http and https"),
            ("https://a:b@example.com/", "a user or a password"),
        ] {
            assert!(next(location).unwrap_err().0.contains(part), "{location}");
        }
    }

    #[test]
    fn an_opened_host_is_a_host_and_a_port_and_nothing_else() {
        for wrong in [
            "",
            "wiki",
            "wiki:",
            "wiki:0",
            "wiki:70000",
            "wiki:http",
            "http://wiki:80",
            "wiki/x:80",
            "a@wiki:80",
            "wiki:80:80",
            "*:80",
        ] {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_machines_own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("198.51.100.1".parse().unwrap()));
    }
}
