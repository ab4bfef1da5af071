//! What `tls-server-end-point` binds to (RFC 5929): a hash of the certificate, by the algorithm of its signature.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Of a certificate in DER. `None` where its signature has no hash of its own (Ed25519), or one that only its parameters
/// name (RSA-PSS), and for what is no certificate: there is no binding then.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(digest(signature_hash(certificate)?, certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm OID, .. }, .. }`
fn signature_hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (_, after) = element(body, SEQUENCE)?;
    let (algorithm, _) = element(after, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    match identifier {
        // 1.2.840.113549.1.1.x: RSA with MD5 and SHA-1 (for which RFC 5929 takes SHA-256), SHA-256, -384, -512.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last] => match last {
            4 | 5 | 11 => Some(&SHA256),
            12 => Some(&SHA384),
            13 => Some(&SHA512),
            _ => None,
        },
        // 1.2.840.10045.4.1 and .4.3.x: ECDSA with SHA-1, SHA-256, -384, -512.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Some(&SHA256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last] => match last {
            2 => Some(&SHA256),
            3 => Some(&SHA384),
            4 => Some(&SHA512),
            _ => None,
        },
        _ => None,
    }
}

/// The contents of the element at the front of `bytes`, and what follows it. Lengths of up to three bytes: 16 MiB.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
