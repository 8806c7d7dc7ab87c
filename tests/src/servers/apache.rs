//! Debian's Apache with `mod_dav`, on a port of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Process;
use crate::need;

const APACHE: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";
/// Who may use it.
const USER: &str = "ann";
const PASSWORD: &str = "a password of tests";

/// When a certificate holds.
#[derive(Debug, Clone, Copy)]
enum Validity {
    Now,
    Over,
}

/// How a server is not like others.
#[derive(Debug, Default)]
struct Manner {
    /// Makes it one with TLS.
    certificate: Option<Validity>,
    refuses_delete: bool,
}

/// A WebDAV server.
#[derive(Debug)]
pub struct Apache {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    scheme: &'static str,
}

impl Apache {
    /// Starts it with its files in a folder that must not exist; none if Apache is missing and waived.
    pub fn start(folder: &Path) -> Option<Self> {
        Self::with_manner(folder, &Manner::default())
    }

    /// The same with a certificate that nobody vouches for.
    pub fn start_tls(folder: &Path) -> Option<Self> {
        Self::with_manner(folder, &Manner { certificate: Some(Validity::Now), ..Manner::default() })
    }

    /// The same with a certificate that is out of date.
    pub fn start_expired(folder: &Path) -> Option<Self> {
        Self::with_manner(folder, &Manner { certificate: Some(Validity::Over), ..Manner::default() })
    }

    /// One at which nobody may delete.
    pub fn start_without_delete(folder: &Path) -> Option<Self> {
        Self::with_manner(folder, &Manner { refuses_delete: true, ..Manner::default() })
    }

    fn with_manner(folder: &Path, manner: &Manner) -> Option<Self> {
        need::program("apache2", "apache2", Path::new(APACHE).is_file()).then_some(())?;
        for path in [folder.to_owned(), folder.join("root"), folder.join("lock")] {
            fs::create_dir(&path).unwrap();
            // It works as another user where it is started by root.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        if let Some(above) = folder.parent() {
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let scheme = if manner.certificate.is_some() { "https" } else { "http" };
        let mut server = Self { process: None, folder: folder.to_owned(), port: super::free_port(), scheme };
        run(Command::new("htpasswd").arg("-bc").arg(folder.join("users")).args([USER, PASSWORD]));
        if let Some(validity) = manner.certificate {
            make_certificate(folder, validity);
        }
        fs::write(folder.join("config"), server.config(manner)).unwrap();
        server.resume();
        Some(server)
    }

    fn config(&self, manner: &Manner) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        let mut names =
            vec!["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs"];
        let mut tls = String::new();
        if self.scheme == "https" {
            names.extend(["socache_shmcb", "ssl"]);
            tls =
                format!("SSLEngine on\nSSLCertificateFile {folder}/cert.pem\nSSLCertificateKeyFile {folder}/key.pem\n");
        }
        let rights = if manner.refuses_delete {
            "<LimitExcept DELETE>\nRequire valid-user\n</LimitExcept>\n<Limit DELETE>\nRequire all denied\n</Limit>\n"
        } else {
            "Require valid-user\n"
        };
        let load = |name: &&str| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n");
        let modules = names.iter().map(load).collect::<Vec<_>>().concat();
        format!(
            "{modules}ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nListen 127.0.0.1:{port}\n\
             User www-data\nGroup www-data\nErrorLog {folder}/log\nDocumentRoot {folder}/root\n\
             DavLockDB {folder}/lock/db\nKeepAliveTimeout 60\n{tls}\
             <Directory {folder}/root>\nDav On\nAuthType Basic\nAuthName sites\nAuthUserFile {folder}/users\n\
             {rights}</Directory>\n"
        )
    }

    /// Ends it; its folder stays.
    pub fn stop(&mut self) {
        // Its children see the parent's end late: they are asked to go, too.
        let _ = Command::new(APACHE).arg("-f").arg(self.folder.join("config")).args(["-k", "stop"]).output();
        self.process = None;
    }

    /// Starts it again on its port.
    pub fn resume(&mut self) {
        let log = fs::File::create(self.folder.join("errors")).unwrap();
        let mut apache = Command::new(APACHE);
        apache.args(["-D", "FOREGROUND", "-f"]).arg(self.folder.join("config"));
        apache.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Process(apache.spawn().unwrap()));
        super::wait_for(self.port, "Apache");
    }

    /// The certificate of a server with TLS.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Where a site's files are.
    pub fn site(&self, name: &str) -> PathBuf {
        self.folder.join("root").join(name)
    }

    /// The URL of a site.
    pub fn url(&self, name: &str) -> String {
        format!("webdav:{}://{USER}@127.0.0.1:{}/{name}", self.scheme, self.port)
    }

    /// The password of the user in its URLs.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes `key.pem` and `cert.pem`, signed by the same key.
fn make_certificate(folder: &Path, validity: Validity) {
    fs::write(folder.join("ca.conf"), CA).unwrap();
    fs::write(folder.join("issued"), "").unwrap();
    fs::write(folder.join("serial"), "01").unwrap();
    let openssl = |words: &[&str]| run(Command::new("openssl").current_dir(folder).args(words));
    openssl(
        &[
            &["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"][..],
            &["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
            &["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "request.pem"],
        ]
        .concat(),
    );
    let time: &[&str] = match validity {
        Validity::Now => &["-days", "2"],
        Validity::Over => &["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"],
    };
    let sign = ["ca", "-batch", "-config", "ca.conf", "-selfsign", "-keyfile", "key.pem", "-in", "request.pem"];
    openssl(&[&sign[..], time, &["-notext", "-out", "cert.pem"]].concat());
}

/// What `openssl ca` needs to know.
const CA: &str = "[ca]\ndefault_ca=here\n[here]\ndatabase=issued\nserial=serial\nnew_certs_dir=.\n\
                  default_md=sha256\npolicy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n";

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
