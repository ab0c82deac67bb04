//! `avp share`: makes a link to a stored context, for agents without a token.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use anyhow::{Context as _, Result};
use avp_transport::wire;
use clap::Args;

use super::{
    fetch::server_and_id,
    remote::{Link, RemoteArgs},
};
use crate::{output::printable, units::duration};

/// Print a link with which anybody can fetch a context, without a token, until the link expires
#[derive(Args)]
pub(crate) struct Share {
    /// The server's URL followed by the context's id, such as `https://agent-b.example:8790/ID`
    #[arg(value_name = "URL/ID")]
    context: String,
    /// How long the link is valid [default: as long as the server keeps contexts, which is the maximum too]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    valid_for: Option<Duration>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Share {
    pub(crate) fn run(&self) -> Result<()> {
        let link = Link::from(self.context.as_str());
        let (url, id) =
            server_and_id(link.url).context("expected the server's URL followed by a context id, URL/ID")?;
        let client = self.remote.client(Link { url, ..link }, None)?;
        let shared = client.link_context(id, self.valid_for)?;
        if let Some((asked, granted)) = self.valid_for.zip(shared.expires_in)
            && granted < asked
        {
            let (granted, asked) = (humantime::format_duration(granted), humantime::format_duration(asked));
            eprintln!(
                "avp: the link is valid for {granted}, not {asked}: the server keeps contexts no longer"
            );
        }
        writeln!(stdout(), "{}{}{}", url.trim_end_matches('/'), wire::CONTEXTS, printable(&shared.link))?;
        Ok(())
    }
}
