//! Signed frames: those of `test-vectors/avp/signed.json`, and our own.
#![cfg(all(feature = "std", feature = "sign"))]

use std::{fs, path::PathBuf};

use avp_core::{
    Frame, FrameEncoder, Metadata,
    sign::{
        Policy, PublicKey, SignOptions, Signature, SignatureError, SigningKey, sign_frame, sign_head,
        verify_frame,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

const OPTIONS: SignOptions<'_> =
    SignOptions { audience: "reader", signed_at: 1_764_320_000, valid_for: 600, nonce: [1; 16] };

const NOW: u64 = OPTIONS.signed_at + 60;

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn verify(frame: &[u8]) -> Result<Signature<'_>, SignatureError> {
    let trusted = [key().public_key()];
    verify_frame(frame, &Policy { audience: Some("reader"), ..Policy::new(&trusted, NOW) })
}

fn answer(input: &Value) -> Result<Value, SignatureError> {
    let frame = hex(input["hex"].as_str().expect("a case"));
    let trusted =
        input["trusted"].as_array().expect("a case").iter().filter_map(|key| key.as_str()?.parse().ok());
    let trusted: Vec<PublicKey> = trusted.collect();
    let policy = Policy {
        audience: input["audience"].as_str(),
        max_lifetime: input["max_lifetime"].as_u64(),
        ..Policy::new(&trusted, input["now"].as_u64().expect("a case"))
    };
    let signature = verify_frame(&frame, &policy)?;
    Ok(json!({
        "signer": signature.signer.to_string(),
        "audience": signature.audience,
        "signed_at": signature.signed_at,
        "signed_until": signature.signed_until,
        "nonce": signature.nonce.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    }))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("a case")).collect()
}

#[test]
fn frames_that_another_implementation_signed_or_spoiled_are_accepted_or_refused() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/avp/signed.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        match (answer(&case["input"]), case.get("error")) {
            (Ok(found), None) => assert_eq!(found, case["expect"], "{}", case["rule"]),
            (Err(error), Some(expected)) => assert_eq!(error.kind(), expected["kind"], "{}", case["rule"]),
            (found, _) => panic!("{}: {found:?}", case["rule"]),
        }
    }
}

#[test]
fn a_signature_replaces_an_earlier_one_and_leaves_the_rest_as_it_was() {
    let extra = [("num_steps", "8"), ("z", "")];
    let metadata =
        Metadata { session_id: "s1", model_id: "m", extra: (&extra).into(), ..Metadata::default() };
    let frame = FrameEncoder::new(metadata).encode(b"tensor").unwrap();
    let other = SignOptions { audience: "writer", nonce: [2; 16], ..OPTIONS };
    let once = sign_frame(&frame, &key(), &OPTIONS).unwrap();
    let twice = sign_frame(&sign_frame(&frame, &key(), &other).unwrap(), &key(), &OPTIONS).unwrap();
    assert_eq!(once, twice);
    let signature = verify(&once).unwrap();
    assert_eq!((signature.audience, signature.nonce), ("reader", [1; 16]));
    assert_eq!((signature.signed_at, signature.signed_until), (OPTIONS.signed_at, OPTIONS.signed_at + 600));
    let read = Frame::decode(&once).unwrap();
    assert_eq!(read.payload(), Ok(&b"tensor"[..]));
    assert_eq!((read.metadata().session_id, read.metadata().extra.get("num_steps")), ("s1", Some("8")));
}

#[test]
fn tensors_stay_aligned() {
    for alignment in [1, 64, 4096] {
        let frame = FrameEncoder::new(Metadata::default()).align(alignment).encode(&[7; 100]).unwrap();
        let mut signed = sign_frame(&frame, &key(), &OPTIONS).unwrap();
        signed = sign_frame(&signed, &key(), &SignOptions { audience: "", ..OPTIONS }).unwrap();
        let offset = Frame::decode(&signed).unwrap().body_offset();
        assert_eq!(offset % alignment, 0, "{offset}");
        assert!(verify_frame(&signed, &Policy::new(&[key().public_key()], NOW)).is_ok());
    }
}

#[test]
fn a_head_is_signed_for_a_body_that_is_elsewhere() {
    let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
    let body_sha256 = <sha2::Sha256 as sha2::Digest>::digest(b"tensor").into();
    let head = sign_head(&frame[..frame.len() - 6], &body_sha256, &key(), &OPTIONS).unwrap();
    let signature = Signature::read(&head).unwrap();
    for (pieces, outcome) in [
        (&[&b"ten"[..], b"", b"sor"][..], Ok(())),
        (&[b"tensors"], Err(SignatureError::Wrong)),
        (&[], Err(SignatureError::Wrong)),
    ] {
        let mut verifier = signature.verifier();
        pieces.iter().for_each(|piece| verifier.feed(piece));
        assert_eq!(verifier.finish(), outcome);
    }
}

#[test]
fn keys_with_which_anybodys_signature_agrees_and_broken_ones_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(PublicKey::from_bytes(&identity).is_err());
    for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63)] {
        assert!(wrong.parse::<PublicKey>().is_err() && wrong.parse::<SigningKey>().is_err(), "{wrong}");
    }
    let text = key().public_key().to_string();
    assert_eq!(text.parse(), Ok(key().public_key()));
    assert!(!format!("{:?}", key()).contains("07070707"));
}

proptest! {
    // Each case verifies thousands of frames.
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn no_bit_of_a_signed_frame_can_be_another_one(
        body in prop::collection::vec(any::<u8>(), 0..40),
        model_id in "[a-z]{0,10}",
        audience in "(reader)?",
    ) {
        let frame = FrameEncoder::new(Metadata { model_id: &model_id, ..Metadata::default() }).encode(&body).unwrap();
        let options = SignOptions { audience: &audience, ..OPTIONS };
        let mut signed = sign_frame(&frame, &key(), &options).unwrap();
        let trusted = [key().public_key()];
        let policy = Policy::new(&trusted, NOW);
        prop_assert!(verify_frame(&signed, &policy).is_ok());
        for bit in 0..8 * signed.len() {
            signed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_frame(&signed, &policy).is_err(), "bit {}", bit);
            signed[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
