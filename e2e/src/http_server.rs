//! A server on loopback that can be closed so that nothing answers any more.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Answers with a router until it is stopped or dropped.
pub(crate) struct HttpServer {
    port: u16,
    closed: DropGuard,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Listens on 127.0.0.1, on this port or on a free one, with TLS where an acceptor is given.
    pub(crate) async fn start(port: Option<u16>, tls: Option<TlsAcceptor>, router: Router) -> Result<Self> {
        let wanted = port.unwrap_or(0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
            .await
            .with_context(|| format!("listening on 127.0.0.1:{wanted}"))?;
        let port = listener.local_addr().context("asking for the port that was given")?.port();
        let closed = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, tls, router, closed.clone()));
        Ok(Self { port, closed: closed.drop_guard(), accepting })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes the socket and every connection: a client that keeps its connections must not reach it any more either.
    pub(crate) async fn stop(self) {
        drop(self.closed);
        if let Err(error) = self.accepting.await {
            tracing::error!(port = self.port, "stopping a server: {error}");
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, closed: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(handle(stream, tls.clone(), router.clone()));
                }
                Err(error) => {
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn handle(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let served = async {
        stream.set_nodelay(true)?;
        match tls {
            None => serve(stream, router).await,
            Some(tls) => serve(tls.accept(stream).await?, router).await,
        }
    };
    if let Err(error) = served.await {
        tracing::debug!("a connection ended: {error:#}");
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) -> Result<()> {
    http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await?;
    Ok(())
}
