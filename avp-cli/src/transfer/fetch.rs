//! `avp fetch`: fetches a context from a server into a file or a pipe.

use std::io::{Write as _, stdout};

use anyhow::{Context as _, Result};
use avp_transport::wire;
use clap::Args;
use serde_json::json;

use super::{
    progress::Progress,
    remote::{Link, RemoteArgs},
};
use crate::output::Output;

/// Fetch a context from a server
///
/// An interrupted transfer is resumed. The frame is verified, and the file is written whole or not at all.
#[derive(Args)]
pub(crate) struct Fetch {
    /// The server's URL followed by the context's id, such as `https://agent-b.example:8790/ID`
    #[arg(value_name = "URL/ID")]
    context: String,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Output,
    /// Remove the context from the server after it is fetched
    #[arg(long)]
    remove: bool,
    /// Print `bytes` and `etag` as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Fetch {
    pub(crate) fn run(&self) -> Result<()> {
        anyhow::ensure!(
            !(self.json && self.output == Output::Stdout),
            "frame and JSON cannot both go to standard output"
        );
        self.output.check()?;
        let link = Link::from(self.context.as_str());
        let (url, id) =
            server_and_id(link.url).context("expected the server's URL followed by a context id, URL/ID")?;
        let client = self.remote.client(Link { url, ..link }, None)?;
        let progress = Progress::new()?;
        let fetch = client.fetch_context(id).on_progress(progress.observer());
        let (head, etag) = match &self.output {
            Output::Stdout => {
                let fetched = fetch.to_memory()?;
                self.output.write(&fetched.frame)?;
                (fetched.head, fetched.etag)
            }
            Output::File(path) => {
                let fetched = fetch.to_file(path)?;
                (fetched.head, fetched.etag)
            }
        };
        drop(progress);
        if self.remove {
            client.delete_context(id).context("the context was fetched, but not removed from the server")?;
        }
        if self.json {
            writeln!(stdout(), "{}", json!({ "bytes": head.header().frame_len(), "etag": etag }))?;
        }
        Ok(())
    }
}

/// Splits `URL/ID`; the path of contexts between the two is optional.
pub(super) fn server_and_id(context: &str) -> Option<(&str, &str)> {
    let (server, id) = context.rsplit_once('/')?;
    let server = server.strip_suffix(wire::CONTEXTS.trim_end_matches('/')).unwrap_or(server);
    let (_, host) = server.split_once("://")?;
    (!id.is_empty() && !host.is_empty()).then_some((server, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_behind_the_server_or_behind_the_whole_path() {
        let expected = Some(("http://a:1", "c1"));
        assert_eq!(server_and_id("http://a:1/c1"), expected);
        assert_eq!(server_and_id("http://a:1/avp/v2/contexts/c1"), expected);
        assert_eq!(server_and_id("http://a:1/behind/a/proxy/c1"), Some(("http://a:1/behind/a/proxy", "c1")));
        for wrong in ["", "c1", "http://a:1", "http://a:1/", "http:///c1", "a:1/c1"] {
            assert_eq!(server_and_id(wrong), None, "{wrong}");
        }
    }
}
