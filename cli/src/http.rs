//! Reads over plain HTTP/1.0: a node's published log. Nothing here trusts what comes: signatures and proofs tell.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::{printable, Failure};

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Why there is no answer. None of it proves anything against the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// It has no such thing: 404.
    NotThere,
    /// Anything else, in words.
    Failed(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotThere => write!(f, "it says that it has no such thing"),
            Self::Failed(why) => write!(f, "{}", printable(why)),
        }
    }
}

/// Where a log is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// As it was given.
    pub url: String,
    host: String,
    address: String,
    prefix: String,
    timeout: Duration,
}

impl Site {
    /// Reads `http://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str, timeout: Duration) -> Result<Self, Failure> {
        let malformed = |why: &str| {
            Failure::usage("MALFORMED_URL", format!("{url:?} {why}")).help(
                "a node publishes its log at http://HOST:PORT ([tlog] in its assentd.toml); reach an https:// site \
                 through a proxy of your own: what is signed needs no TLS",
            )
        };
        let rest = url.strip_prefix("http://").ok_or_else(|| malformed("is not an http:// URL"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"@?#\\\"<>".contains(&b));
        if host.is_empty() || !is_plain(host) || !is_plain(path) {
            return Err(malformed("names no host, or holds what no such URL has"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { url: url.to_owned(), host: host.to_owned(), address, prefix, timeout })
    }

    /// What lies at a path, at most `max` bytes of it.
    pub async fn get(&self, path: &str, max: usize) -> Result<Vec<u8>, NoAnswer> {
        let asked = tokio::time::timeout(self.timeout, self.ask(path, max)).await;
        asked.unwrap_or_else(|_| {
            Err(NoAnswer::Failed(format!("no answer within {} s", self.timeout.as_secs())))
        })
    }

    async fn ask(&self, path: &str, max: usize) -> Result<Vec<u8>, NoAnswer> {
        let failed = |error: std::io::Error| NoAnswer::Failed(format!("{}: {error}", self.address));
        let mut stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        let request = format!(
            "GET {}/{path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: assent\r\nAccept-Encoding: identity\r\n\r\n",
            self.prefix, self.host
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        stream.take((MAX_HEAD_BYTES + max + 1) as u64).read_to_end(&mut answer).await.map_err(failed)?;
        body(answer, max)
    }
}

/// The body of a whole answer.
fn body(answer: Vec<u8>, max: usize) -> Result<Vec<u8>, NoAnswer> {
    let failed = |why: &str| Err(NoAnswer::Failed(why.to_owned()));
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return failed("its answer is no HTTP");
    };
    let Ok(head) = std::str::from_utf8(&answer[..end]) else { return failed("its answer is no HTTP") };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)).unwrap_or_default();
    let body = &answer[end + 4..];
    let field = |name: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    match status {
        "200" => {}
        "404" | "410" => return Err(NoAnswer::NotThere),
        _ => {
            let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            return Err(NoAnswer::Failed(format!("HTTP {status} {}", said.trim())));
        }
    }
    if body.len() > max {
        return Err(NoAnswer::Failed(format!("its answer is longer than {max} bytes")));
    }
    if field("transfer-encoding").is_some() {
        return failed("its answer is chunked, which HTTP/1.0 has not");
    }
    match field("content-length").map(str::parse::<usize>) {
        Some(length) if length != Ok(body.len()) => failed("its answer was cut"),
        _ => Ok(body.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |url| Site::parse(url, Duration::from_secs(1)).map(|s| (s.address, s.prefix)).ok();
        let site = |address: &str, prefix: &str| Some((address.to_owned(), prefix.to_owned()));
        assert_eq!(parse("http://127.0.0.1:7415"), site("127.0.0.1:7415", ""));
        assert_eq!(parse("http://[::1]:7415/"), site("[::1]:7415", ""));
        assert_eq!(parse("http://log.example/cedar/"), site("log.example:80", "/cedar"));
        for url in [
            "",
            "127.0.0.1:1",
            "https://h",
            "http://",
            "http:///x",
            "http://a b",
            "http://h/\r\nx",
            "http://u@h",
            "http://h?q",
        ] {
            assert_eq!(parse(url), None, "{url:?}");
        }
    }

    #[test]
    fn answers_that_are_whole_and_others() {
        let of = |text: &str| body(text.as_bytes().to_vec(), 5);
        assert_eq!(of("HTTP/1.1 200 OK\r\n\r\nhello"), Ok(b"hello".to_vec()));
        assert_eq!(of("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"), Ok(b"hello".to_vec()));
        assert_eq!(of("HTTP/1.0 404 No\r\n\r\nhello"), Err(NoAnswer::NotThere));
        for text in [
            "",
            "\r\n\r\n",
            "hello",
            "HTTP/1.0 200 OK\r\n\r\nhello!",
            "HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nhello",
            "HTTP/1.0 200 OK\r\ncontent-length: x\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "HTTP/1.0 500 No\r\n\r\nwhy",
            "HTTP/1.0 2",
            "HTTP/1.0 é\r\n\r\n",
        ] {
            assert!(matches!(of(text), Err(NoAnswer::Failed(_))), "{text:?}");
        }
    }
}
