//! The secrets of the API, judged as it judges them when it starts. Those that are not given here are skipped: they may be
//! known to the API alone. No secret is printed.

use super::DoctorArgs;
use super::check::{At, Checks};

const PEPPER: At = At("secrets", "key pepper");
const SIGNING: At = At("secrets", "token signing");
const ENCRYPTION: At = At("secrets", "encryption keys");
const STRONG: &str = "given and strong";

/// Looks at them.
pub(super) fn look(args: &DoctorArgs, checks: &mut Checks) {
    let missing = |variable: &str| format!("{variable} is not set here; run this with the environment of the API");
    let pepper = &args.pepper;
    let pepper = if pepper.api_key_pepper.is_none() && pepper.api_key_pepper_file.is_none() {
        checks.skip(PEPPER, missing("API_KEY_PEPPER"));
        None
    } else {
        match pepper.pepper() {
            Ok(pepper) => {
                checks.ok(PEPPER, STRONG);
                Some(pepper)
            }
            Err(error) => {
                checks.refuse(PEPPER, error);
                None
            }
        }
    };
    if args.signing.jwt_secret.is_none() && args.signing.jwt_secret_file.is_none() {
        checks.skip(SIGNING, missing("JWT_SECRET"));
    } else {
        // without a pepper there is nothing that it could be the same as
        match args.signing.signing(&pepper.unwrap_or_default()) {
            Ok(signing) if signing.previous.is_some() => checks.ok(SIGNING, "given and strong, and the one before it"),
            Ok(_) => checks.ok(SIGNING, STRONG),
            Err(error) => checks.refuse(SIGNING, error),
        }
    }
    if args.encryption.encryption_keys.is_none() && args.encryption.encryption_keys_file.is_none() {
        return checks.skip(ENCRYPTION, missing("ENCRYPTION_KEYS"));
    }
    match args.encryption.keys() {
        Ok(_) => checks.ok(ENCRYPTION, "given, of 32 bytes each"),
        Err(error) => checks.refuse(ENCRYPTION, error),
    }
}
