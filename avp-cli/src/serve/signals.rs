//! Signals: to stop, by Ctrl-C or the system's signal for services, and to read tokens and certificates again.

use std::io;

/// The exit code of a program that was ended by Ctrl-C, as in shells.
pub(super) const INTERRUPTED: i32 = 130;

/// The signals to stop. Once created, they no longer end the process by themselves.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for a signal.
    pub(super) async fn next(&mut self) {
        // Without a handler there is no signal.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Calls `reload` at each `SIGHUP`, which then no longer ends the process. Other systems have no such signal.
///
/// # Errors
/// When the system refuses.
#[cfg(unix)]
pub(super) fn on_hangup(reload: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let reload = std::sync::Arc::new(reload);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let reload = reload.clone();
            // It reads files and may run a command.
            tokio::task::spawn_blocking(move || reload());
        }
    });
    Ok(())
}
