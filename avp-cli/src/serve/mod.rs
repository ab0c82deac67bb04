//! `avp serve`: stores contexts for other agents, and with a model continues from them.

mod access;
mod allocator;
mod audit;
mod chat;
mod config;
mod costs;
mod descriptors;
mod error;
mod log;
mod memory;
mod model_handler;
mod seal;
mod signals;

use std::{
    io::{self, IsTerminal as _, Write as _, stderr, stdout},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use avp_core::FrameLimits;
use avp_transport::{
    server::{
        AllowedOrigins, AuditLog, ContextHandler, FairShares, Handler, Limits, RequiredSigners,
        ServerOptions, Service, Tokens, serve,
    },
    store::{ContextStore, StoreOptions},
};
use clap::{ArgAction, Args};
use tokio::net::TcpSocket;

use self::{
    access::Endpoint, log::LogForm, memory::MemoryPlan, model_handler::ModelHandler, seal::SealArgs,
    signals::Signals,
};
use crate::{
    model::RunArgs,
    sign::public_keys,
    units::{duration, size},
    user_token::UserToken,
};

/// Time limit for tasks that are still running after the shutdown.
const TASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Length of the queue of pending connections, as in Tokio's listeners.
const BACKLOG: u32 = 1024;

/// Receive and store contexts for other agents; with a model, answer from them
///
/// Prints the address on which it listens. Ctrl-C finishes requests in progress; a second one exits immediately.
#[derive(Args)]
#[command(args_override_self = true)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 selects a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8790")]
    listen: String,
    /// TOML file with options under their long names; the command line has precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Id of this agent
    #[arg(long, value_name = "ID", default_value = "avp")]
    agent_id: String,
    /// Time limit for requests in progress after Ctrl-C
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    patience: Duration,
    /// Format of the log on standard error
    #[arg(long, value_name = "text|json", default_value = "text")]
    log: LogForm,
    /// Audit log: a file to which each request appends one line of JSON, with its sender, contexts and outcome
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Log level: error, warn, info, debug or trace [default: RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<tracing::Level>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    model: ServedModelArgs,
}

/// Options of access.
#[derive(Args, Clone)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Require client certificates of these authorities, PEM; plain HTTP is then refused, also from this machine
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Accept plain HTTP from other machines: the network can then read tokens and contexts
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    plain_from_anywhere: bool,
    /// File of accepted bearer tokens, one for each line, with a principal's name and scopes behind it; # starts a comment
    /// [default: a token of this user, made at the first start]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Accept requests without a token from every program that can reach the address
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    no_token: bool,
    /// Name of this server in `Host`, beside IP addresses, `localhost` and the name in --listen; may be repeated
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Origin of web pages that may use this server, such as `https://app.example.com` [default: none]; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,
    /// Accept frames of sessions without a handshake with this server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    any_session: bool,
    /// Accept frames that are signed with this public key alone, or with one in this file; may be repeated
    #[arg(long, value_name = "KEY|FILE", requires = "audience")]
    require_signed_by: Vec<String>,
    /// Name of this server for which frames must be signed
    #[arg(long, value_name = "NAME", requires = "require_signed_by")]
    audience: Option<String>,
    /// Maximum number of requests per second of one principal, or address without tokens [default: unlimited]
    #[arg(long, value_name = "N")]
    requests_per_second: Option<NonZeroU32>,
}

/// Options of storage.
#[derive(Args)]
#[command(next_help_heading = "Contexts")]
struct StoreArgs {
    /// Folder for contexts, not shared with other servers [default: memory]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    seal: SealArgs,
    /// Maximum size of all contexts; the least recently used are removed [default: 8GiB, in memory at most three eighths of --memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    quota: Option<u64>,
    /// Time to live of a context
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    ttl: Duration,
    /// Maximum size of a frame and of its uncompressed body [default: 1GiB, at most what --memory allows]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_body: Option<u64>,
    /// Maximum memory of the contexts in memory and of all requests, beside that of the model
    /// [default: half of this machine's, or of the container's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
}

/// Options of the model.
#[derive(Args)]
#[command(next_help_heading = "Model")]
struct ServedModelArgs {
    /// Model for text messages and chat completions, with or without a stored context
    #[arg(long, value_name = "MODEL_DIR")]
    model: Option<PathBuf>,
    /// Take the texts of special tokens in messages as special tokens: then a message can begin a turn of another role
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    special_tokens_in_content: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl Serve {
    pub(crate) fn run(&self) -> Result<()> {
        match &self.config {
            Some(file) => config::with_file(file)?.start(),
            None => self.start(),
        }
    }

    fn start(&self) -> Result<()> {
        let endpoint = Endpoint::find(&self.listen, &self.access)?;
        let plan = MemoryPlan::new(&self.store, self.model.model.is_some())?;
        let (tokens, user_token) = access::tokens(&self.access)?;
        log::start(self.log, self.log_level)?;
        let options = ServerOptions {
            tokens,
            hosts: access::hosts(&self.listen, &self.access)?,
            origins: AllowedOrigins::new(&self.access.allowed_origin).context("--allowed-origin")?,
            limits: self.limits(&plan),
            memory: FairShares::new(plan.requests),
            audit: self.audit.as_deref().map(audit::open).transpose()?.map(AuditLog::new),
            ..Default::default()
        };
        let user_token = user_token.as_ref();
        allocator::limit_arenas();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let served = runtime.block_on(async {
            // Bind before the store is opened, because opening removes expired contexts, which a server that cannot listen must
            // not do. Accept connections after it, when requests can be answered.
            let socket =
                claim(&endpoint.addresses).with_context(|| format!("cannot listen on {}", self.listen))?;
            let stock = self.stock(&plan)?;
            match &self.model.model {
                Some(folder) => {
                    let handler = ModelHandler::load(&self.model, folder, &self.agent_id, stock, &options)?;
                    let service = Service::new(handler, options);
                    self.serve(socket, endpoint, service, ModelHandler::stock, user_token).await
                }
                None => {
                    let service = Service::new(stock, options);
                    self.serve(socket, endpoint, service, |stock| stock, user_token).await
                }
            }
        });
        runtime.shutdown_timeout(TASK_TIMEOUT);
        served
    }

    async fn serve<H: Handler>(
        &self,
        socket: TcpSocket,
        endpoint: Endpoint,
        service: Service<H>,
        stock: fn(&H) -> &ContextHandler,
        user_token: Option<&UserToken>,
    ) -> Result<()> {
        let mut signals = Signals::new()?;
        let listener = socket.listen(BACKLOG).with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        announce(&endpoint, address, &service.options().tokens, user_token)?;
        #[cfg(unix)]
        self.reload_on_hangup(&endpoint, service.clone(), stock)?;
        let stop = async move {
            signals.next().await;
            tracing::info!("stopping: requests in progress are finished, new ones are refused");
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(signals::INTERRUPTED);
            });
        };
        serve(listener, service, endpoint.options, stop, self.patience).await;
        Ok(())
    }

    /// At SIGHUP, reads tokens, certificates, keys and signers again, and begins the audit log anew if its file was renamed.
    #[cfg(unix)]
    fn reload_on_hangup<H: Handler>(
        &self,
        endpoint: &Endpoint,
        service: Service<H>,
        stock: fn(&H) -> &ContextHandler,
    ) -> Result<()> {
        let seal = self.store.seal.clone();
        let (access, tls) = (self.access.clone(), endpoint.options.tls.clone());
        let audit = self.audit.clone().zip(service.options().audit.clone());
        signals::on_hangup(move || {
            match access::reload(&access, tls.as_ref()) {
                Ok(tokens) => {
                    service.replace_tokens(tokens);
                    tracing::info!("tokens and certificates are read again");
                }
                Err(error) => tracing::error!("tokens and certificates stay as they are: {error:#}"),
            }
            match seal.keys() {
                Ok(Some(keys)) => {
                    stock(service.handler()).contexts().replace_seal_keys(keys);
                    tracing::info!("the keys of the contexts are read again");
                }
                Ok(None) => {}
                Err(error) => tracing::error!("the keys of the contexts stay as they are: {error:#}"),
            }
            if access.audience.is_some() {
                match public_keys(&access.require_signed_by) {
                    Ok(signers) => stock(service.handler()).replace_signers(signers),
                    Err(error) => tracing::error!("the keys of signers stay as they are: {error:#}"),
                }
            }
            if let Some((file, log)) = &audit {
                match audit::open(file) {
                    Ok(file) => log.replace(file),
                    Err(error) => tracing::error!("the audit log stays where it is: {error:#}"),
                }
            }
        })?;
        Ok(())
    }

    fn stock(&self, plan: &MemoryPlan) -> Result<ContextHandler> {
        let quota = usize::try_from(plan.quota).unwrap_or(usize::MAX);
        let keeping = StoreOptions { quota, ttl: self.store.ttl };
        let contexts = match &self.store.store {
            Some(folder) => match self.store.seal.keys()? {
                Some(keys) => ContextStore::in_sealed_folder(folder, keys, keeping),
                None => ContextStore::in_folder(folder, keeping),
            }
            .with_context(|| format!("cannot keep contexts in {}", folder.display()))?,
            None => ContextStore::in_memory(keeping),
        };
        let stock = ContextHandler::new(&self.agent_id, contexts).any_session(self.access.any_session);
        Ok(match &self.access.audience {
            Some(audience) => {
                let signers = public_keys(&self.access.require_signed_by).context("--require-signed-by")?;
                stock.required_signers(RequiredSigners::new(signers, audience))
            }
            None => stock,
        })
    }

    fn limits(&self, plan: &MemoryPlan) -> Limits {
        let frame = FrameLimits {
            frame: plan.max_body,
            unpacked: usize::try_from(plan.max_body).unwrap_or(usize::MAX),
            ..FrameLimits::default()
        };
        let limits = Limits::default();
        let connections =
            descriptors::for_connections().map_or(plan.connections, |most| most.min(plan.connections));
        Limits { frame, connections, requests_per_second: self.access.requests_per_second, ..limits }
    }
}

/// Binds the first free address, without accepting connections yet.
fn claim(addresses: &[SocketAddr]) -> io::Result<TcpSocket> {
    let mut refused = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As in Tokio's listeners: reuse the port of a server that has ended within the last minute. On Windows, the same option
        // would share the port of a running server.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        match socket.bind(*address) {
            Ok(()) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Prints the address to standard output, for people and scripts that wait for it, and to a terminal a link with the token.
fn announce(
    endpoint: &Endpoint,
    address: SocketAddr,
    tokens: &Tokens,
    user_token: Option<&UserToken>,
) -> Result<()> {
    let scheme = if endpoint.options.tls.is_some() { "https" } else { "http" };
    if tokens.is_open() && !endpoint.requires_certificates {
        let reach = if access::is_local(&address) { "this machine" } else { "the network" };
        tracing::warn!(
            "no token: every program on {reach} that can connect to {address} can use this server"
        );
    }
    writeln!(stdout(), "listening on {scheme}://{address}")?;
    if let Some(UserToken { path, token }) = user_token {
        let path = path.display();
        log::tell(format_args!(
            "clients need the token in {path}; `avp` reads it there for servers on this machine"
        ));
        // A secret does not belong in a log file, and other machines use another address.
        if stderr().is_terminal() && access::is_local(&address) {
            log::tell(format_args!("link with the token: {scheme}://{address}/#token={token}"));
        }
    }
    Ok(stdout().flush()?)
}
