//! A listening port: its address and the processes that own it.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Image, NetworkNamespace, Process, ProcessKey};

/// The address at which a TCP socket listens, or to which a UDP socket is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The transport protocol of the socket.
    pub transport: Transport,
    /// The local address. An IPv4-mapped address of an IPv6 socket is given as IPv4, because such a
    /// socket accepts only IPv4.
    pub address: IpAddr,
    /// The local port in host byte order; 0 if it is not known yet.
    pub port: u16,
    /// Whether the socket accepts IPv4 too: it is bound to `::` without `IPV6_V6ONLY`.
    pub dual_stack: bool,
}

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Transport {
    /// TCP; the socket is in the state LISTEN.
    Tcp,
    /// UDP; the socket is bound.
    Udp,
}

/// From where a port can be reached, by the address to which its socket is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Only from the port's own network namespace: 127.0.0.0/8, ::1.
    Loopback,
    /// Through every address of its network namespace: 0.0.0.0, ::.
    Wildcard,
    /// Through one specific address only.
    Specific,
}

/// A port that opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address of the port.
    pub endpoint: Endpoint,
    /// The network namespace in which the port is reachable. In another namespace the same address
    /// is another port.
    pub network_namespace: NetworkNamespace,
    /// The known owners. If the opening of the port was observed, this is the process that called
    /// listen(2), or bind(2) for UDP. After a scan, these are all processes that hold a socket of
    /// the port.
    pub owners: Owners,
}

/// How many owners of a port are named, for the same reason as holders of an output: see
/// [`HOLDERS_NAMED`](super::HOLDERS_NAMED).
const OWNERS_NAMED: usize = 32;

/// The processes that hold a socket, or the sockets of a port: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// The processes that began first, at most 32, in the order of their starts.
    pub named: Vec<Owner>,
    /// How many processes they are. If several sockets of a port have more than 32
    /// owners each, it is not known which of the others they share, and this is the largest number
    /// of one socket.
    pub count: u32,
}

/// A process that holds a socket of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The identity of the process.
    pub key: ProcessKey,
    /// The pid of the process in its own pid namespace; `None` if it is unknown.
    pub vpid: Option<i32>,
    /// The image that the process ran; `None` if the process was never reported.
    pub image: Option<Arc<Image>>,
    /// The exec that the process belongs to; `None` if it belongs to no exec.
    pub exec_id: Option<Arc<str>>,
    /// The container of the process, which in a pod can differ from the container of the socket.
    /// `None` if the process was never reported.
    pub container_id: Option<Arc<str>>,
}

impl Endpoint {
    /// The endpoint of a socket with this local address. `v6_only` is `IPV6_V6ONLY`.
    #[must_use]
    pub fn new(transport: Transport, address: IpAddr, port: u16, v6_only: bool) -> Self {
        let dual_stack = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6_only;
        Self { transport, address: address.to_canonical(), port, dual_stack }
    }

    /// From where the endpoint can be reached.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.address {
            address if address.is_unspecified() => Scope::Wildcard,
            address if address.is_loopback() => Scope::Loopback,
            _ => Scope::Specific,
        }
    }

    /// `ipv4` or `ipv6`, as OpenTelemetry names `network.type`.
    #[must_use]
    pub fn network_type(&self) -> &'static str {
        if self.address.is_ipv4() { "ipv4" } else { "ipv6" }
    }
}

/// The endpoint as text, for example `tcp 127.0.0.1:80`.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.address, self.port);
        write!(formatter, "{} {address}", self.transport.as_str())
    }
}

impl Transport {
    /// The name of the protocol in events: OpenTelemetry's `network.transport`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Scope {
    /// The name of the scope in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Wildcard => "wildcard",
            Self::Specific => "specific",
        }
    }
}

impl Owners {
    /// The owners with these identities. `owner` finds what is known of one that is named.
    pub(crate) fn of(mut keys: Vec<ProcessKey>, owner: impl Fn(ProcessKey) -> Owner) -> Self {
        keys.sort_unstable_by_key(|key| (key.start, key.pid));
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        Self { named: keys.into_iter().take(OWNERS_NAMED).map(owner).collect(), count }
    }

    /// The owners of several sockets together.
    pub(crate) fn union<'a>(of: impl Iterator<Item = &'a Self>) -> Self {
        let (mut most, mut known, mut named) = (0, HashSet::new(), Vec::new());
        for Self { named: owners, count } in of {
            most = most.max(*count);
            named.extend(owners.iter().filter(|owner| known.insert(owner.key)));
        }
        named.sort_unstable_by_key(|owner| (owner.key.start, owner.key.pid));
        let count = u32::try_from(named.len()).unwrap_or(u32::MAX).max(most);
        Self { named: named.into_iter().take(OWNERS_NAMED).cloned().collect(), count }
    }
}

impl From<Owner> for Owners {
    fn from(owner: Owner) -> Self {
        Self { named: vec![owner], count: 1 }
    }
}

impl Owner {
    /// An owner that is a reported process of a container.
    #[must_use]
    pub fn of(process: &Process, container_id: Option<Arc<str>>) -> Self {
        let Process { key, vpid, image, exec_id, .. } = process;
        Self {
            key: *key,
            vpid: *vpid,
            image: Some(image.clone()),
            exec_id: exec_id.clone(),
            container_id,
        }
    }

    /// An owner of which only the identity is known, and perhaps the pid in its own pid namespace.
    #[must_use]
    pub fn unknown(key: ProcessKey, vpid: Option<i32>) -> Self {
        Self { key, vpid, image: None, exec_id: None, container_id: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check the scope, the network type and dual stack of each kind of address.
    #[test]
    fn scope_and_network_type_follow_from_the_address() {
        let facts = |address: &str, v6_only| {
            let endpoint = Endpoint::new(Transport::Tcp, address.parse().unwrap(), 80, v6_only);
            (endpoint.scope().as_str(), endpoint.network_type(), endpoint.dual_stack)
        };
        assert_eq!(facts("127.8.0.1", false), ("loopback", "ipv4", false));
        assert_eq!(facts("0.0.0.0", false), ("wildcard", "ipv4", false));
        assert_eq!(facts("10.0.0.1", false), ("specific", "ipv4", false));
        assert_eq!(facts("::1", false), ("loopback", "ipv6", false));
        assert_eq!(facts("::", true), ("wildcard", "ipv6", false));
        assert_eq!(facts("::", false), ("wildcard", "ipv6", true));
        assert_eq!(facts("fe80::1", false), ("specific", "ipv6", false));
        assert_eq!(facts("::ffff:127.0.0.1", false), ("loopback", "ipv4", false));
    }

    /// Check that of many owners the first are named, and all are counted: those of one socket, and
    /// those of sockets that share some.
    #[test]
    fn owners_are_named_up_to_a_bound() {
        let owners = |pids: std::ops::Range<i32>| {
            let keys = pids.rev().map(|pid| ProcessKey::new(pid, 5)).collect();
            Owners::of(keys, |key| Owner::unknown(key, None))
        };
        let pids = |owners: &Owners| -> Vec<i32> {
            owners.named.iter().map(|owner| owner.key.pid).collect()
        };
        let many = owners(1..1001);
        assert_eq!((pids(&many), many.count), ((1..33).collect(), 1000));
        let each: Vec<Owners> = (1..100).rev().map(|pid| owners(pid..pid + 2)).collect();
        let all = Owners::union(each.iter());
        assert_eq!((pids(&all), all.count), ((1..33).collect(), 100));
        let all = Owners::union([&many, &owners(500..502)].into_iter());
        assert_eq!((pids(&all), all.count), ((1..33).collect(), 1000));
    }

    /// Check that an endpoint prints its protocol, and brackets around an IPv6 address.
    #[test]
    fn an_endpoint_prints_as_text() {
        let text = |address: &str| {
            Endpoint::new(Transport::Tcp, address.parse().unwrap(), 80, false).to_string()
        };
        assert_eq!((&*text("10.0.0.1"), &*text("::1")), ("tcp 10.0.0.1:80", "tcp [::1]:80"));
    }
}
