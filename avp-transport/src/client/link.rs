//! Links to stored contexts, for agents without a token of the server.

use std::time::Duration;

use super::{Client, ClientError, retry::Retries, session::seconds};

/// A link to a stored context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The link, in place of an id.
    pub link: String,
    /// How long it is valid, if the server tells.
    pub expires_in: Option<Duration>,
}

impl Client {
    /// Asks for a link to a stored context: an id with which anybody can fetch it, without a token, for `valid_for`. The server may
    /// shorten that time, and `None` is as long as it allows.
    ///
    /// ```no_run
    /// # async fn example(client: avp_transport::client::Client) -> Result<(), avp_transport::client::ClientError> {
    /// let link = client.link_context("c1", None).await?.link;
    /// let fetched = client.fetch_context(&link).to_memory().await?; // any other client can do this too
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the exchange; for an unknown context, and from a server without links, [`ClientError::Refused`] with status 404 or
    /// 405.
    pub async fn link_context(&self, id: &str, valid_for: Option<Duration>) -> Result<Linked, ClientError> {
        let body = match valid_for {
            // In whole seconds, rounded up.
            Some(valid_for) => {
                let rounded = valid_for.as_secs().saturating_add(u64::from(valid_for.subsec_nanos() > 0));
                serde_json::json!({ "expires_in": rounded })
            }
            None => serde_json::json!({}),
        };
        self.within_total(async {
            let mut retries = Retries::new(&self.inner.options.retry);
            loop {
                let (request, attempt) = self.json_request(&Self::context_path(id)?, &body.to_string());
                match self.reply(request, Some(attempt)).await {
                    Ok((reply, _)) => {
                        let link = reply.text("link").ok_or(ClientError::Protocol { expected: "a link" })?;
                        let expires_in = reply.field("expires_in").and_then(seconds);
                        return Ok(Linked { link: link.to_owned(), expires_in });
                    }
                    // A link that nobody has learned of does no harm.
                    Err(error) => retries.pause(error, true).await?,
                }
            }
        })
        .await
    }
}
