//! Being asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at Ctrl-C, or at SIGTERM as a service manager sends it.
pub(crate) async fn asked() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        // Without a handler the signal itself ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
