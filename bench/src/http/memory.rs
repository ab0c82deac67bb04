//! The memory of a server per frame in flight.

use anyhow::Result;

use super::{
    LARGE, Server, client,
    send::{How, TOGETHER},
};
use crate::table::{Table, size};

pub(super) fn table() -> Result<Table> {
    let mut table = Table::new(
        format!("Memory of a server while {TOGETHER} frames of {} arrive together", size(LARGE)),
        &["server", "HTTP", "before", "most", "more, a frame", "of the frame"],
    );
    for server in [Server::Memory, Server::Files, Server::Passing] {
        for how in [How::Http1, How::Http2] {
            let mut served = server.start()?;
            let mut client = client(&served.url, LARGE, how, None)?;
            client.ask("small")?;
            let before = served.partner.ask("forget peak")?.number("resident")?;
            client.ask("together")?;
            let most = served.partner.ask("memory")?.number("peak")?;
            let more = (most - before) / TOGETHER as f64;
            let mebibytes = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
            table.row([
                server.name().to_owned(),
                how.argument().to_owned(),
                mebibytes(before),
                mebibytes(most),
                mebibytes(more),
                format!("{:.3}x", more / LARGE as f64),
            ]);
        }
    }
    Ok(table)
}
