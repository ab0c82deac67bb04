//! A server that keeps whatever frames it is sent: `cargo run -p avp-transport --example relay -- 127.0.0.1:8790`.

use std::{io, time::Duration};

use avp_transport::{
    server::{ContextHandler, ListenOptions, ServerOptions, Service, serve},
    store::{ContextStore, StoreOptions},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let stock = ContextHandler::new("relay", ContextStore::in_memory(StoreOptions::default()));
    let service = Service::new(stock, ServerOptions::default());
    serve(listener, service, ListenOptions::default(), std::future::pending(), Duration::ZERO).await;
    Ok(())
}
