//! TLS as libpq's `sslmode` has it, by rustls with ring.

use super::certificate;
use super::conninfo::{RootCertificate, SslMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// Makes ring the process's one provider of cryptography. Calling it again changes nothing.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How a mode is carried out. `Err` says which file can't be used and why.
pub(super) fn client_config(mode: SslMode, root: Option<&RootCertificate>) -> Result<ClientConfig, String> {
    install_crypto_provider();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (trust, trusted_as_is) = match (mode, root) {
        (SslMode::VerifyCa | SslMode::VerifyFull, Some(RootCertificate::File(path))) => from_file(path)?,
        (SslMode::VerifyCa | SslMode::VerifyFull, _) => {
            let mut store = RootCertStore::empty();
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            (store, Vec::new())
        }
        _ => (RootCertStore::empty(), Vec::new()),
    };
    let verifier = Verifier {
        mode,
        trust,
        trusted_as_is,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// The roots of a PEM file, and their DER besides: a server may present one of them as its own certificate.
fn from_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let fail = |error: &dyn std::fmt::Display| format!("sslrootcert {}: {error}", path.display());
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| fail(&error))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    if certificates.is_empty() {
        return Err(fail(&"no certificate in it"));
    }
    Ok((store, certificates))
}

/// Checks as much of a certificate as the mode asks for. The handshake's signature is checked in every mode: channel
/// binding rests on the server owning the key of the certificate that it shows.
#[derive(Debug)]
struct Verifier {
    mode: SslMode,
    trust: RootCertStore,
    trusted_as_is: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_chain(
        &self,
        parsed: &ParsedCertificate<'_>,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.algorithms.all;
        let chain = verify_server_cert_signed_by_trust_anchor(parsed, &self.trust, intermediates, now, algorithms);
        match chain {
            // A self-signed certificate that the file itself names is trusted, as libpq does. webpki turns it down
            // for being a CA's, after it has looked at its dates.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string() == "CaUsedAsEndEntity" && self.trusted_as_is.iter().any(|c| c == end_entity) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.mode >= SslMode::VerifyCa {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(&parsed, end_entity, intermediates, now)?;
            if self.mode == SslMode::VerifyFull {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match verify_tls13_signature(message, certificate, signature, &self.algorithms) {
            // A version 1 certificate can't be verified but is good enough to encrypt with.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.mode < SslMode::VerifyCa => {
                let key = certificate::public_key(certificate).ok_or(CertificateError::BadEncoding)?;
                let key = SubjectPublicKeyInfoDer::from(key);
                verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
            }
            result => result,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Which check of the certificate failed, in words. `None` where it is not about the certificate.
pub(super) fn certificate_fault(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(fault) = error else {
        return None;
    };
    Some(match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server's certificate is for another name: {error}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".into()
        }
        CertificateError::UnknownIssuer => "the server's certificate is not signed by a CA that is trusted here".into(),
        _ => format!("the server's certificate fails its checks: {error}"),
    })
}
