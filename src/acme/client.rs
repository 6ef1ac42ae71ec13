//! HTTP to an ACME server: a connection for each request, on the control thread, through the kernel's network.
//!
//! A certificate takes some ten requests, and there is one in weeks: nothing is kept open.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For a request with everything that belongs to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A chain of certificates is some kilobytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Asks over TLS, and never without.
pub(super) struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// One that trusts these.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(roots: RootCertStore) -> Result<Client, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| format!("cannot speak TLS: {e}"))?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Client { config: Arc::new(config) })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let config = Arc::clone(&self.config);
        Box::pin(async move {
            match timeout(PATIENCE, exchange(config, request)).await {
                Ok(answer) => answer.map_err(Error::Other),
                Err(_) => Err(Error::Other("no answer in time".into())),
            }
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    config: Arc<ClientConfig>,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Failure> {
    let uri = request.uri().clone();
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{uri} is not an https:// URL").into());
    };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let at = (host.as_str(), authority.port_u16().unwrap_or(443));
    let tcp = TcpStream::connect(at).await.map_err(|e| no_connection(&uri, &e))?;
    let name = ServerName::try_from(host.clone())?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|e| no_connection(&uri, &e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let driver = tokio::spawn(connection);
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    *request.uri_mut() = uri.path_and_query().map_or("/", |p| p.as_str()).parse()?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok(BytesResponse { parts, body: Box::new(body) })
}

fn no_connection(uri: &Uri, error: &io::Error) -> Failure {
    format!("no connection to {}: {error}", uri.authority().map_or("", |a| a.as_str())).into()
}
