//! Third-party servers that sites are kept at, and a proxy that makes their lines bad.
//!
//! - **Owns** their start on loopback ports, their folders in the world's, and their end: each ends with its value.
//! - **Does not** imitate anything: an S3 server of another project, Debian's sshd and Apache's `mod_dav`.

mod apache;
mod proxy;
mod s3;
mod sshd;

pub use apache::Apache;
pub use proxy::{Line, Proxy};
pub use s3::{ACCESS_KEY, Manner, OTHER_REGION, S3Server, SECRET_KEY};
pub use sshd::Sshd;

use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a server may take to answer on a busy machine.
const START_WAIT: Duration = Duration::from_mins(1);

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens.
fn wait_for(port: u16, what: &str) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < START_WAIT, "{what} does not answer on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server's process, ended with this value.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
