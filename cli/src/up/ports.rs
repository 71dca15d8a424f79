//! Free ports: the API's is checked before anything starts, the metrics' are found.
//!
//! Called by `up::plan`. A port is only looked at: between here and the child's own bind somebody else may take it, and
//! then the child says so. It must never keep a port.

use std::io::{ErrorKind, Result as IoResult};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use tokio::time::{Instant, sleep};

/// Where metrics are served if the port is free.
const FIRST_METRICS_PORT: u16 = 9464;
const METRICS_PORTS: u16 = 200;
/// An earlier run that was killed may still be closing its port.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the API can listen there.
pub(super) async fn check_free(host: IpAddr, port: u16) -> Result<()> {
    let begun = Instant::now();
    loop {
        match bound(SocketAddr::new(host, port)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(explained(host, port, &error)),
        }
    }
}

fn explained(host: IpAddr, port: u16, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let other = if port == u16::MAX { port - 1 } else { port + 1 };
            anyhow!(
                "API_PORT {port} on {host} is in use by another program; choose another port, for example: \
                 make up API_PORT={other}"
            )
        }
        ErrorKind::AddrNotAvailable => anyhow!(
            "API_HOST {host} is no address of this machine; use 127.0.0.1 for this machine only, or 0.0.0.0 for all networks"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "this user may not listen on API_PORT {port}; choose one above 1023, for example: make up API_PORT=8080"
        ),
        _ => anyhow!("could not listen on API_HOST {host}, API_PORT {port}: {error}"),
    }
}

/// Where the API listens, with a real port in place of 0, and two addresses for metrics: the usual ones if possible, any two when
/// the API takes any, too.
pub(super) fn chosen(host: IpAddr, port: u16) -> Result<(SocketAddr, [SocketAddr; 2])> {
    if port == 0 {
        return any_three(host).context("could not find three free ports");
    }
    let ports = (FIRST_METRICS_PORT..FIRST_METRICS_PORT + METRICS_PORTS).filter(|metrics| *metrics != port);
    let mut free = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).filter(|address| bound(*address).is_ok());
    match (free.next(), free.next()) {
        (Some(first), Some(second)) => Ok((SocketAddr::new(host, port), [first, second])),
        _ => Err(anyhow!(
            "no two of the {METRICS_PORTS} ports from {FIRST_METRICS_PORT} on are free for metrics; end a few programs"
        )),
    }
}

/// All are held until all are known, or one might be another again.
fn any_three(host: IpAddr) -> IoResult<(SocketAddr, [SocketAddr; 2])> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (api, first, second) = (TcpListener::bind((host, 0))?, TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok((api.local_addr()?, [first.local_addr()?, second.local_addr()?]))
}

fn bound(address: SocketAddr) -> IoResult<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_busy_port_names_the_variable_and_a_way_out() {
        let taken = TcpListener::bind((HOST, 0)).expect("listen");
        let port = taken.local_addr().expect("address").port();
        let error = check_free(HOST, port).await.expect_err("busy").to_string();
        assert!(error.contains(&format!("API_PORT {port}")) && error.contains("make up API_PORT="), "{error}");
        drop(taken);
        check_free(HOST, port).await.expect("free again");
    }

    #[tokio::test]
    async fn a_port_that_is_just_being_closed_is_waited_for() {
        let taken = TcpListener::bind((HOST, 0)).expect("listen");
        let port = taken.local_addr().expect("address").port();
        let (checked, ()) = tokio::join!(check_free(HOST, port), async {
            sleep(Duration::from_millis(200)).await;
            drop(taken);
        });
        checked.expect("free after a moment");
    }

    #[tokio::test]
    async fn a_foreign_address_names_the_variable() {
        let error = check_free(IpAddr::from([192, 0, 2, 1]), 8080).await.expect_err("not ours").to_string();
        assert!(error.contains("API_HOST 192.0.2.1"), "{error}");
    }

    #[test]
    fn no_port_is_given_twice() {
        for port in [0, 1, FIRST_METRICS_PORT] {
            let (api, [first, second]) = chosen(HOST, port).expect("ports");
            assert!(api.port() != 0 && api != first && api != second && first != second, "{api} {first} {second}");
        }
    }
}
