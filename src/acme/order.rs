//! One certificate: an order, the proofs that it asks for, the key, the chain.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;

use super::{Proof, Shown};
use crate::config::ChallengeKind;

/// How long the server may take to look at the proofs, and then to sign.
const PATIENCE: Duration = Duration::from_secs(120);

/// A key and its chain, in PEM: in one piece, so that one never stands beside another's.
pub struct Issued {
    /// The key, then the chain.
    pub pem: String,
}

/// Gets a certificate for `names`. `show` comes back when clients see what it was given, and is given nothing in the end.
///
/// # Errors
/// One sentence: the server's reason where there is one.
pub async fn obtain(
    account: &Account,
    names: &[String],
    kind: ChallengeKind,
    show: &dyn Fn(Vec<Shown>) -> Result<(), String>,
) -> Result<Issued, String> {
    let identifiers: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(said)?;
    let proven = prove(&mut order, kind, show).await;
    // Also after a failure: nothing is to be left standing.
    let hidden = show(Vec::new());
    proven?;
    hidden?;

    let mut params = CertificateParams::new(names.to_vec()).map_err(made)?;
    // The names are what counts; a common name would only be one of them.
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(made)?;
    let request = params.serialize_request(&key).map_err(made)?;
    order.finalize_csr(request.der()).await.map_err(said)?;
    let chain = order.poll_certificate(&retries()).await.map_err(said)?;
    Ok(Issued { pem: format!("{}{chain}", key.serialize_pem()) })
}

async fn prove(
    order: &mut Order,
    kind: ChallengeKind,
    show: &dyn Fn(Vec<Shown>) -> Result<(), String>,
) -> Result<(), String> {
    let wanted = match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut shown = Vec::new();
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let mut authorization = authorization.map_err(said)?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(challenge) = authorization.challenge(wanted.clone()) else {
            return Err(format!("the server does not take {} for {name}", kind.text()));
        };
        shown.push(Shown { proof: proof(kind, &name, &challenge)?, name });
    }
    if !shown.is_empty() {
        show(shown)?;
        let mut all = order.authorizations();
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization.map_err(said)?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(wanted.clone())
            {
                challenge.set_ready().await.map_err(said)?;
            }
        }
    }
    match order.poll_ready(&retries()).await.map_err(said)? {
        OrderStatus::Ready | OrderStatus::Valid => Ok(()),
        _ => Err(refusal(order).await),
    }
}

fn proof(kind: ChallengeKind, name: &str, challenge: &ChallengeHandle<'_>) -> Result<Proof, String> {
    let authorization = challenge.key_authorization();
    if kind == ChallengeKind::Http01 {
        let answer = authorization.as_str().to_owned();
        return Ok(Proof::Http { token: challenge.token.clone(), answer });
    }
    // RFC 8737, 3: self-signed, for the name alone, with the digest in an extension.
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(made)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(authorization.digest().as_ref())];
    let key = KeyPair::generate().map_err(made)?;
    let certificate = params.self_signed(&key).map_err(made)?;
    let der = key.serialized_der().to_vec().try_into().map_err(|e| format!("a key is not readable: {e}"))?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)
        .map_err(|e| format!("a key is not usable: {e}"))?;
    Ok(Proof::Tls(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer))))
}

/// What the server found wrong with the proofs.
async fn refusal(order: &mut Order) -> String {
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let Ok(mut authorization) = authorization else { continue };
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        if let Some(problem) = authorization.challenges.iter().find_map(|c| c.error.as_ref()) {
            return format!(
                "the server has not taken the proof for {name}: {}",
                said_of(&problem.to_string())
            );
        }
    }
    "the server has not taken the proofs".to_owned()
}

fn retries() -> RetryPolicy {
    RetryPolicy::new().timeout(PATIENCE)
}

fn said(error: instant_acme::Error) -> String {
    said_of(&error.to_string())
}

/// On one line.
fn said_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn made(error: rcgen::Error) -> String {
    format!("cannot make a key or a request: {error}")
}
