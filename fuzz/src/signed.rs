//! Signed frames, in a file of its own, because only this target needs the feature `sign`.

use avp_core::{
    Frame,
    sign::{Policy, SignOptions, Signature, SignatureError, SigningKey, sign_frame, verify_frame},
};

/// The time at which the frames of `test-vectors/avp/signed.json` are valid.
const NOW: u64 = 1_764_320_060;

/// A frame, signed or not: its signature is read whole and in pieces, and whatever it is, it can be signed and verified.
pub(crate) fn signed(data: &[u8]) {
    let key = SigningKey::from_seed(&[7; 32]);
    let trusted = [key.public_key()];
    let policy = Policy::new(&trusted, NOW);
    let whole = verify_frame(data, &policy);
    let Ok(frame) = Frame::decode(data) else {
        assert!(matches!(whole, Err(SignatureError::Frame(_))));
        return;
    };
    let in_pieces = Signature::read(data).and_then(|signature| {
        signature.check(&policy)?;
        let mut verifier = signature.verifier();
        frame.body().chunks(3).for_each(|piece| verifier.feed(piece));
        verifier.finish().map(|()| signature)
    });
    assert_eq!(in_pieces, whole);
    let options = SignOptions { audience: "", signed_at: NOW, valid_for: 1, nonce: [9; 16] };
    let signed = sign_frame(data, &key, &options).expect("the frame is small");
    assert_eq!(verify_frame(&signed, &policy).map(|found| found.nonce), Ok([9; 16]));
    assert_eq!(Frame::decode(&signed).map(|frame| frame.body()), Ok(frame.body()));
}
