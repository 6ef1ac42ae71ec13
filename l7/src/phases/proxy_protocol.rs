//! The PROXY protocol: who a client is behind a load balancer.
