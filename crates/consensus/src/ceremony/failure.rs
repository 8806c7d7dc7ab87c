//! Why a ceremony ends without a key, and who is to blame.

use std::fmt;

/// Why a ceremony ended without a key. It can be held again; who is named here should be asked first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// A dealer sent this node a share that does not fit what it committed to.
    WrongShare { dealer: [u8; 32] },
    /// Another node says so of a dealer: one of the two does not follow the protocol.
    Complaint { by: [u8; 32], dealer: [u8; 32] },
    /// A dealer signed two logs in one attempt.
    TwoLogs { dealer: [u8; 32] },
    /// A dealer's log shows the shares of nodes that were there.
    Reveals { dealer: [u8; 32] },
    /// A dealer's log does not hold.
    WrongLog { dealer: [u8; 32], reason: String },
    /// All logs hold, and no key follows from them.
    NoKey { reason: String },
}

impl Failure {
    /// What happened, with nodes as they are called.
    pub fn tell(&self, name: impl Fn(&[u8; 32]) -> String) -> String {
        match self {
            Self::WrongShare { dealer } => {
                format!("{} sent this node a share that does not fit what it committed to", name(dealer))
            }
            Self::Complaint { by, dealer } => format!(
                "{} says that {} sent it a share that does not fit: one of the two does not follow the protocol",
                name(by),
                name(dealer)
            ),
            Self::TwoLogs { dealer } => format!("{} signed two different logs in one attempt", name(dealer)),
            Self::Reveals { dealer } => format!("{} published shares of nodes that were there", name(dealer)),
            Self::WrongLog { dealer, reason } => format!("the log of {} does not hold: {reason}", name(dealer)),
            Self::NoKey { reason } => format!("no key follows from the logs: {reason}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tell(|key| hex::encode(key)))
    }
}

impl std::error::Error for Failure {}
