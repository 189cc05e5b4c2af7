//! A listening port: where, and whose.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use super::{Image, Process, ProcessKey};

/// Where a socket listens, or is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The protocol.
    pub transport: Transport,
    /// The local address. One of IPv4 that an IPv6 socket is bound to is told as of IPv4, which is
    /// all that it takes.
    pub address: IpAddr,
    /// The local port; 0 where it is not known yet.
    pub port: u16,
    /// Whether it takes IPv4 too: bound to `::` without `IPV6_V6ONLY`.
    pub dual_stack: bool,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// TCP, listening.
    Tcp,
    /// UDP, bound.
    Udp,
}

/// Who can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Only its own network namespace: 127.0.0.0/8, ::1.
    Loopback,
    /// Every address of its network namespace: 0.0.0.0, ::.
    Wildcard,
    /// One address.
    Specific,
}

/// A port that opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Where.
    pub endpoint: Endpoint,
    /// Who listens, as far as it is known: at the opening the process that called listen(2), of UDP
    /// bind(2); where the processes were asked, all that hold one of its sockets.
    pub owners: Vec<Owner>,
}

/// A process that holds a socket of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub key: ProcessKey,
    /// Its pid in its own pid namespace.
    pub vpid: Option<i32>,
    /// What it ran; `None` where it is nobody that was told.
    pub image: Option<Arc<Image>>,
    /// The exec that it belongs to.
    pub exec_id: Option<Arc<str>>,
    /// Its container, which in a pod need not be that of the socket; `None` where it is nobody that
    /// was told.
    pub container_id: Option<Arc<str>>,
}

impl Endpoint {
    /// From what a socket says of itself.
    #[must_use]
    pub fn new(transport: Transport, address: IpAddr, port: u16, v6_only: bool) -> Self {
        let dual_stack = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6_only;
        Self { transport, address: address.to_canonical(), port, dual_stack }
    }

    /// Who can reach it.
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

impl Transport {
    /// The word that events use: OpenTelemetry's `network.transport`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Scope {
    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Wildcard => "wildcard",
            Self::Specific => "specific",
        }
    }
}

impl Owner {
    /// A process that was told, of that container.
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

    /// One of whom nothing else is known.
    #[must_use]
    pub fn unknown(key: ProcessKey, vpid: Option<i32>) -> Self {
        Self { key, vpid, image: None, exec_id: None, container_id: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check the scope and the type of each kind of address.
    #[test]
    fn the_scope_says_who_can_reach_it() {
        let told = |address: &str, v6_only| {
            let endpoint = Endpoint::new(Transport::Tcp, address.parse().unwrap(), 80, v6_only);
            (endpoint.scope().as_str(), endpoint.network_type(), endpoint.dual_stack)
        };
        assert_eq!(told("127.8.0.1", false), ("loopback", "ipv4", false));
        assert_eq!(told("0.0.0.0", false), ("wildcard", "ipv4", false));
        assert_eq!(told("10.0.0.1", false), ("specific", "ipv4", false));
        assert_eq!(told("::1", false), ("loopback", "ipv6", false));
        assert_eq!(told("::", true), ("wildcard", "ipv6", false));
        assert_eq!(told("::", false), ("wildcard", "ipv6", true));
        assert_eq!(told("fe80::1", false), ("specific", "ipv6", false));
        assert_eq!(told("::ffff:127.0.0.1", false), ("loopback", "ipv4", false));
    }
}
