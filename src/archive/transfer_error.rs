//! Why a transfer failed, and how people are told.

use std::io;

use super::http::REDIRECTS;
use crate::report::{Diagnostic, Kind};

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The place has no such file.
    #[error("`{url}` is not there")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// Another answer than success.
    #[error("`{url}` was answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// No connection, or it broke before an answer.
    #[error("cannot reach `{url}`: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The server stopped sending, or sends too slowly.
    #[error("`{url}` stalled after {received} bytes: {reason}")]
    Stalled {
        /// What was asked for.
        url: String,
        /// Bytes that had come.
        received: u64,
        /// Which patience ran out.
        reason: String,
    },
    /// The body ended early.
    #[error("`{url}` ended after {received} bytes of {expected}")]
    Cut {
        /// What was asked for.
        url: String,
        /// Bytes that had come.
        received: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// The body is longer than it may be.
    #[error("`{url}` sends more than the {limit} bytes that it may have")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The bound in bytes.
        limit: u64,
    },
    /// A web page where a file of an archive should be.
    #[error("`{url}` was answered with a web page instead of a file")]
    WebPage {
        /// What was asked for.
        url: String,
    },
    /// The whole file where a part of it was asked for.
    #[error("`{url}` was answered whole, and a part of it was asked for")]
    Whole {
        /// What was asked for.
        url: String,
    },
    /// Redirects without end.
    #[error("`{url}` is redirected more than {REDIRECTS} times")]
    RedirectLoop {
        /// What was asked for.
        url: String,
    },
    /// No URL that can be asked.
    #[error("`{url}` cannot be used: {reason}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The receiving side failed.
    #[error("cannot store `{url}`: {source}")]
    Sink {
        /// What was asked for.
        url: String,
        /// Why.
        source: io::Error,
    },
}

impl TransferError {
    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            _ => false,
        }
    }

    /// The failure as told to people, with advice where there is some; it happened with a mirror of `archive`.
    pub fn diagnostic(&self, archive: &str) -> Diagnostic {
        let another = format!("name another mirror with `--mirror {archive}=URL`");
        let diagnostic = Diagnostic::error(Kind::World, self.to_string());
        match self {
            Self::NotFound { .. } => diagnostic.hint(another),
            Self::Status { status: 401 | 403, .. } => {
                diagnostic.hint("this place wants credentials; write them as `https://USER:PASSWORD@HOST/`")
            }
            Self::Status { status: 407, .. } => diagnostic.hint("the proxy wants credentials: see `https_proxy`"),
            Self::Status { .. } | Self::Stalled { .. } | Self::Cut { .. } => {
                diagnostic.hint(format!("try again later, or {another}"))
            }
            Self::Unreachable { reason, .. } if reason.contains("certificate") => diagnostic.hint(
                "add the authority that signed it to the host's, or name a PEM file of authorities in `SSL_CERT_FILE`",
            ),
            Self::Unreachable { .. } => diagnostic
                .hint("is the network up, and does it need a proxy (`http_proxy`, `https_proxy`)?")
                .hint(another),
            Self::TooLong { .. }
            | Self::Whole { .. }
            | Self::RedirectLoop { .. }
            | Self::BadUrl { .. }
            | Self::Sink { .. } => diagnostic,
            Self::WebPage { .. } => {
                diagnostic.hint("a network that asks for a login (a captive portal) or a proxy may answer in its place")
            }
        }
    }
}
