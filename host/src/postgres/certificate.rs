//! The two things that are read from an X.509 certificate here: its signature's digest, for channel binding
//! (RFC 5929, `tls-server-end-point`), and its public key, where the certificate is too old for webpki.

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[0]`, constructed: a version in a certificate, a digest in RSASSA-PSS parameters.
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.1: RSA, followed by the algorithm's number.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: ECDSA.
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2: the SHA-2 digests.
const SHA_2: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// What SCRAM-SHA-256-PLUS binds to; `None` for a signature without a digest of its own (Ed25519).
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut certificate_body = expect(&mut &*certificate, SEQUENCE)?;
    expect(&mut certificate_body, SEQUENCE)?;
    let mut algorithm = expect(&mut certificate_body, SEQUENCE)?;
    let identifier = expect(&mut algorithm, OBJECT_IDENTIFIER)?;
    match signature_digest(identifier, algorithm)? {
        256 => Some(Sha256::digest(certificate).to_vec()),
        384 => Some(Sha384::digest(certificate).to_vec()),
        512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Bits of the digest. MD5 and SHA-1 count as SHA-256, as the RFC has it; SHA-224 is not offered here.
fn signature_digest(identifier: &[u8], parameters: &[u8]) -> Option<u16> {
    if let Some(number) = identifier.strip_prefix(&RSA) {
        return match number {
            [4 | 5 | 11] => Some(256),
            [12] => Some(384),
            [13] => Some(512),
            [10] => pss_digest(parameters),
            _ => None,
        };
    }
    match identifier.strip_prefix(&ECDSA)? {
        [1] | [3, 2] => Some(256),
        [3, 3] => Some(384),
        [3, 4] => Some(512),
        _ => None,
    }
}

/// RSASSA-PSS names its digest in the parameters; SHA-1 where it doesn't.
fn pss_digest(mut parameters: &[u8]) -> Option<u16> {
    let mut fields = expect(&mut parameters, SEQUENCE)?;
    let Some(mut digest) = expect(&mut fields, CONTEXT_0) else {
        return Some(256);
    };
    let mut algorithm = expect(&mut digest, SEQUENCE)?;
    match expect(&mut algorithm, OBJECT_IDENTIFIER)?.strip_prefix(&SHA_2)? {
        [1] => Some(256),
        [2] => Some(384),
        [3] => Some(512),
        _ => None,
    }
}

/// The SubjectPublicKeyInfo, its header included.
pub(super) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut body = expect(&mut &*certificate, SEQUENCE)?;
    let mut fields = expect(&mut body, SEQUENCE)?;
    // A version is there from 2 on; then serial, signature, issuer, validity, subject.
    let _ = expect(&mut fields, CONTEXT_0);
    for _ in 0..5 {
        element(&mut fields)?;
    }
    let start = fields;
    expect(&mut fields, SEQUENCE)?;
    start.get(..start.len() - fields.len())
}

/// The content of the next element if it has this tag; else nothing is taken.
fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let mut ahead = *rest;
    let (found, content) = element(&mut ahead)?;
    if found != tag {
        return None;
    }
    *rest = ahead;
    Some(content)
}

/// One DER element: tag, length in short or long form, content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut after) = rest.split_first_chunk::<2>()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        // Four bytes say more than any certificate is long.
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, remaining) = after.split_at_checked(count)?;
        after = remaining;
        digits
            .iter()
            .fold(0, |length, digit| (length << 8) | usize::from(*digit))
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = end_point(&bytes);
            let _ = public_key(&bytes);
        }
    }

    /// A certificate of which only the outline is there: body, algorithm, signature.
    fn outline(algorithm: &[u8]) -> Vec<u8> {
        let mut body = vec![SEQUENCE, 0, SEQUENCE, u8::try_from(algorithm.len()).unwrap()];
        body.extend_from_slice(algorithm);
        let mut certificate = vec![SEQUENCE, u8::try_from(body.len()).unwrap()];
        certificate.extend_from_slice(&body);
        certificate
    }

    #[test]
    fn the_digest_is_the_signatures_own() {
        let with = |prefix: &[u8], number: &[u8]| {
            let mut algorithm = vec![OBJECT_IDENTIFIER, u8::try_from(prefix.len() + number.len()).unwrap()];
            algorithm.extend_from_slice(prefix);
            algorithm.extend_from_slice(number);
            end_point(&outline(&algorithm)).map(|hash| hash.len() * 8)
        };
        assert_eq!(with(&RSA, &[5]), Some(256), "SHA-1 counts as SHA-256");
        assert_eq!(with(&RSA, &[11]), Some(256));
        assert_eq!(with(&RSA, &[12]), Some(384));
        assert_eq!(with(&RSA, &[13]), Some(512));
        assert_eq!(with(&ECDSA, &[3, 3]), Some(384));
        assert_eq!(with(&[0x2b, 0x65], &[0x70]), None, "Ed25519 has none");
    }
}
