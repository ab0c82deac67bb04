//! Our client in a process of its own.

use std::{ffi::OsString, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use avp_core::{DType, FrameEncoder, Metadata, PayloadType};
use avp_transport::client::{Client, ClientOptions, FrameBody, Receipt, RetryPolicy, Roots, TlsOptions};
use bytes::Bytes;

use super::answer_lines;
use crate::frames::pattern;

/// The argument by which this program starts itself as a client.
pub(crate) const SEND: &str = "http-send";

/// Frames that are in flight together when their memory is measured.
pub(super) const TOGETHER: usize = 4;

/// The HTTP version of a client without TLS; with TLS it is negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Http1,
    Http2,
}

impl How {
    pub(super) const fn argument(self) -> &'static str {
        match self {
            Self::Http1 => "1",
            Self::Http2 => "2",
        }
    }
}

/// `URL SIZE HTTP [AUTHORITY]`: answers the requests on standard input.
///
/// # Errors
/// When the arguments are wrong.
pub(crate) fn send(arguments: &[OsString]) -> Result<()> {
    let text: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let [url, size, http, authority @ ..] = &text[..] else { bail!("expected URL SIZE HTTP [AUTHORITY]") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut options = ClientOptions {
        allow_plain_http: true,
        plain_http2: *http == How::Http2.argument(),
        retry: RetryPolicy::NEVER,
        ..Default::default()
    };
    if let [authority] = authority {
        let roots = Roots::from_pem(&std::fs::read(authority)?)?;
        options.tls = TlsOptions { roots, ..Default::default() };
    }
    // One connection each.
    let clients = (0..TOGETHER).map(|_| Client::new(url, options.clone())).collect::<Result<Vec<_>, _>>()?;
    let payload = Bytes::from(pattern(size.parse()?));
    let first = clients.first().context("there is a client")?;
    answer_lines(|line| match line {
        "frame" => {
            let start = Instant::now();
            runtime.block_on(transmit(first, payload.clone()))?;
            Ok(vec![("seconds", start.elapsed().as_secs_f64())])
        }
        // Connections, and whatever else a server makes for the first frame.
        "small" => {
            for client in &clients {
                runtime.block_on(transmit(client, payload.slice(..payload.len().min(4096))))?;
            }
            Ok(Vec::new())
        }
        "together" => {
            let all = clients.iter().map(|client| {
                let (client, payload) = (client.clone(), payload.clone());
                runtime.spawn(async move { transmit(&client, payload).await })
            });
            for sent in all.collect::<Vec<_>>() {
                runtime.block_on(sent)??;
            }
            Ok(Vec::new())
        }
        _ => bail!("unknown request {line}"),
    })
}

/// Sends a payload, checksum included, as the peer's `transmit` does.
async fn transmit(client: &Client, payload: Bytes) -> Result<Receipt> {
    let fields = Metadata {
        model_id: "Qwen/Qwen2.5-0.5B",
        hidden_dim: 896,
        num_layers: 24,
        payload_type: PayloadType::KvCache,
        dtype: DType::Float16,
        extra: (&[("num_steps", "8")]).into(),
        ..Default::default()
    };
    let head = FrameEncoder::new(fields).encode_head(&[&payload])?;
    let receipt = client.transmit(FrameBody::parts([head.into(), payload])).await?;
    ensure!(receipt.reply().is_success(), "the server refused the frame");
    Ok(receipt)
}
