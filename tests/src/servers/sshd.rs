//! Debian's `sshd` on a port of its own, with keys made for the test and its own SFTP server inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Process;
use crate::need;

const SSHD: &str = "/usr/sbin/sshd";

/// An SFTP server.
#[derive(Debug)]
pub struct Sshd {
    _process: Process,
    port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
    user: String,
}

impl Sshd {
    /// Starts it with its files in a folder that must not exist; none if sshd is missing and waived.
    pub fn start(folder: &Path) -> Option<Self> {
        need::program("sshd", "openssh-server", Path::new(SSHD).is_file()).then_some(())?;
        fs::create_dir(folder).unwrap();
        // What its init script makes; it does not start without it.
        let _ = fs::create_dir("/run/sshd");
        let port = super::free_port();
        let (host_key, key) = (folder.join("host-key"), folder.join("key"));
        for key in [&host_key, &key] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        }
        fs::copy(folder.join("key.pub"), folder.join("authorized")).unwrap();
        let public = fs::read_to_string(folder.join("host-key.pub")).unwrap();
        let known_hosts = folder.join("known hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {public}")).unwrap();
        let config = folder.join("config");
        let lines = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
            host_key.display(),
            folder.join("authorized").display(),
        );
        fs::write(&config, lines).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut sshd = Command::new(SSHD);
        sshd.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Process(sshd.spawn().unwrap());
        super::wait_for(port, "sshd");
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        Some(Self { _process: process, port, key, known_hosts, user: user.trim().to_owned() })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file of the key that it lets in.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The URL of a site in a folder of this host.
    pub fn url(&self, folder: &Path) -> String {
        self.url_with(folder, &self.known_hosts)
    }

    /// The same through a port in front of it.
    pub fn url_through(&self, port: u16, folder: &Path) -> String {
        let known = fs::read_to_string(&self.known_hosts).unwrap();
        let there = self.known_hosts.with_file_name(format!("known-{port}"));
        fs::write(&there, known.replace(&format!(":{} ", self.port), &format!(":{port} "))).unwrap();
        self.url_with(folder, &there).replace(&format!(":{}/", self.port), &format!(":{port}/"))
    }

    /// The same with another file of known hosts.
    pub fn url_with(&self, folder: &Path, known_hosts: &Path) -> String {
        let (user, port, key) = (&self.user, self.port, self.key.display());
        let known_hosts = known_hosts.display().to_string().replace(' ', "%20");
        format!("sftp://{user}@127.0.0.1:{port}{}?key={key}&known_hosts={known_hosts}", folder.display())
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
