//! Options of the connection to a server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use avp_core::{Evidence, FrameLimits, OwnedModelIdentity};
use avp_rosetta::MapFolder;
use avp_runtime_ort::read_identity;
use avp_transport::client::{
    ClientOptions, EvidenceLookup, Roots, Timeouts, TlsIdentity, TlsOptions, Token, blocking::Client,
};
use clap::Args;
use http::Uri;

use crate::{
    output::printable,
    token_file,
    units::{duration, size},
    user_token::UserToken,
};

/// The environment variable with a token, if there is no option.
const TOKEN_VARIABLE: &str = "AVP_TOKEN";

/// The environment variable with the host that may get the token of [`TOKEN_VARIABLE`], beside this machine.
const HOST_VARIABLE: &str = "AVP_TOKEN_HOST";

/// Options of the connection to a server.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(super) struct RemoteArgs {
    /// File whose first token is sent to the server [default: AVP_TOKEN, for the host AVP_TOKEN_HOST or this machine; else, for
    /// this machine, the token of `avp serve`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Token to send to the server; other users of this machine can see it, unlike AVP_TOKEN or a file
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// Id of this agent
    #[arg(long, value_name = "ID", default_value = "avp")]
    agent_id: String,
    /// Authorities for the server's certificate, PEM [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate of this agent, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of this agent's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Use plain HTTP to a server on another machine: the network can then read tokens and contexts
    #[arg(long)]
    insecure_plain: bool,
    /// Maximum size of a frame
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    max_body: u64,
    /// Fail after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl RemoteArgs {
    /// A client of the server at `link`, with the identity of the model in `model`, if given.
    pub(super) fn client(&self, link: Link<'_>, model: Option<&Path>) -> Result<Client> {
        let identity = model.map(read_identity).transpose()?;
        let options = ClientOptions {
            agent_id: self.agent_id.clone(),
            evidence: identity.is_some().then(|| EvidenceLookup::new(kept_maps)),
            identity,
            token: self.token(link)?,
            tls: self.tls()?,
            allow_plain_http: self.insecure_plain,
            timeouts: Timeouts { total: self.timeout, ..Timeouts::default() },
            limits: FrameLimits {
                frame: self.max_body,
                unpacked: usize::try_from(self.max_body).unwrap_or(usize::MAX),
                ..FrameLimits::default()
            },
            ..ClientOptions::default()
        };
        Ok(Client::new(link.url, options)?)
    }

    fn token(&self, link: Link<'_>) -> Result<Option<Token>> {
        let token = match (&self.token_file, &self.token) {
            (Some(path), _) => Some(token_file::first(path)?),
            (None, Some(token)) => Some(token.clone()),
            (None, None) => match link.token {
                Some(token) => Some(token.to_owned()),
                None => token_for(&host(link.url)?)?,
            },
        };
        Ok(token.as_deref().map(Token::new).transpose()?)
    }

    fn tls(&self) -> Result<TlsOptions> {
        let roots = match &self.ca {
            Some(path) => Roots::from_pem(&read(path)?).with_context(|| path.display().to_string())?,
            None => Roots::default(),
        };
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => {
                let identity = TlsIdentity::from_pem(&read(chain)?, &read(key)?);
                Some(identity.with_context(|| chain.display().to_string())?)
            }
            _ => None,
        };
        Ok(TlsOptions { roots, identity, ..TlsOptions::default() })
    }
}

/// A URL, with a token behind it in the links of `avp serve`.
#[derive(Clone, Copy)]
pub(super) struct Link<'a> {
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
}

impl<'a> From<&'a str> for Link<'a> {
    fn from(link: &'a str) -> Self {
        match link.split_once("#token=") {
            Some((url, token)) => Self { url: url.trim_end_matches('/'), token: Some(token) },
            None => Self { url: link, token: None },
        }
    }
}

/// The token for a server on `host`: that of the environment if it is for this host, else the user's own on this machine.
fn token_for(host: &str) -> Result<Option<String>> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_local = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    match set(TOKEN_VARIABLE) {
        Some(token) if is_local || set(HOST_VARIABLE).is_some_and(|own| own.eq_ignore_ascii_case(host)) => {
            Ok(Some(token))
        }
        Some(_) => {
            let to = printable(host);
            eprintln!(
                "avp: {TOKEN_VARIABLE} is not sent to {to}: set {HOST_VARIABLE}={to}, or use --token-file"
            );
            Ok(None)
        }
        None if is_local => Ok(UserToken::find()?.map(|found| found.token)),
        None => Ok(None),
    }
}

fn host(url: &str) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("{} is not a URL", printable(url)))?;
    Ok(uri.host().unwrap_or_default().to_ascii_lowercase())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether `avp rosetta` has saved a map from the local to the remote model.
fn kept_maps(ours: &OwnedModelIdentity, theirs: &OwnedModelIdentity) -> Evidence {
    let kept = |folder: MapFolder| folder.find(&ours.model_hash, &theirs.model_hash).is_some();
    Evidence { has_stored_map: MapFolder::from_env().is_ok_and(kept), shared_tokens: None }
}
